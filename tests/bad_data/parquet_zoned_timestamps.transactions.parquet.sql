select * from (values
    ('parquet_zoned_timestamps-1', 'c1', timestamptz '2026-03-31 23:30:00-04', 12.5),
    ('parquet_zoned_timestamps-2', 'c1', timestamptz '2026-04-01 03:59:59+00', 12.5),
    ('parquet_zoned_timestamps-3', 'c1', timestamptz '2026-04-01 04:00:00+00', 12.5),
    ('parquet_zoned_timestamps-4', 'c1', timestamptz '2026-03-08 06:59:59+00', 12.5),
    ('parquet_zoned_timestamps-5', 'c1', null, 12.5)
) as delivered (transaction_id, customer_id, transaction_date, transaction_amount)
