select * from (values
    ('parquet_doubles-1', 'c1', date '2026-03-02', 12.5::double),
    ('parquet_doubles-2', 'c1', date '2026-03-02', 'nan'::double),
    ('parquet_doubles-3', 'c1', date '2026-03-02', 'inf'::double),
    ('parquet_doubles-4', 'c1', date '2026-03-02', '-inf'::double),
    ('parquet_doubles-5', 'c1', date '2026-03-02', 1e18::double),
    ('parquet_doubles-6', 'c1', date '2026-03-02', -0.0::double),
    ('parquet_doubles-7', 'c1', date '2026-03-02', 0.1::double + 0.2::double),
    ('parquet_doubles-8', 'c1', date '2026-03-02', 100000::double),
    ('parquet_doubles-9', 'c1', date '2026-03-02', 1e-7::double),
    ('parquet_doubles-10', 'c1', date '2026-03-02', 7.0::double),
    ('parquet_doubles-11', 'c1', date '2026-03-02', 7.0::double),
    ('parquet_doubles-12', 'c1', date '2026-03-02', 7.0::double),
    ('parquet_doubles-13', 'c1', date '2026-03-02', 7.0::double)
) as delivered (transaction_id, customer_id, transaction_date, transaction_amount)
