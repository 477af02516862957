select * from (values
    ('parquet_floats-1', 'c1', date '2026-03-02', 12.1::float),
    ('parquet_floats-2', 'c1', date '2026-03-02', 99999.99::float)
) as delivered (transaction_id, customer_id, transaction_date, transaction_amount)
