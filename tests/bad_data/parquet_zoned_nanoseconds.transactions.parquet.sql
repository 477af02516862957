select * from (values
    ('parquet_zoned_nanoseconds-1', 'c1', cast('2026-04-01 03:59:59.999999999+00' as timestamptz_ns), 12.5),
    ('parquet_zoned_nanoseconds-2', 'c1', cast('2026-04-01 04:00:00+00' as timestamptz_ns), 12.5)
) as delivered (transaction_id, customer_id, transaction_date, transaction_amount)
