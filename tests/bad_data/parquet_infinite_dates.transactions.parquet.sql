select * from (values
    ('parquet_infinite_dates-1', 'c1', date '2026-03-02', 12.5),
    ('parquet_infinite_dates-2', 'c1', date '2026-03-02', 12.5),
    ('parquet_infinite_dates-3', 'c1', date 'infinity', 12.5),
    ('parquet_infinite_dates-4', 'c1', date '0044-03-15 (BC)', 12.5)
) as delivered (transaction_id, customer_id, transaction_date, transaction_amount)
