select * from (values
    ('parquet_decimals-1', 'c1', date '2026-03-02', 12.345::decimal(38, 10)),
    ('parquet_decimals-2', 'c1', date '2026-03-02', 7::decimal(38, 10)),
    ('parquet_decimals-3', 'c1', date '2026-03-02', null)
) as delivered (transaction_id, customer_id, transaction_date, transaction_amount)
