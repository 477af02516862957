select * from (values
    ('parquet_timestamps-1', 'c1', timestamp_ns '2026-03-02 23:59:59.999999999', 12.5),
    ('parquet_timestamps-2', 'c1', timestamp_ns '2026-03-03 00:00:00', 12.5)
) as delivered (transaction_id, customer_id, transaction_date, transaction_amount)
