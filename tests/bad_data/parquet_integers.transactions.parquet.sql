select * from (values
    ('parquet_integers-1', 'c1', date '2026-03-02', 12::bigint),
    ('parquet_integers-2', 'c1', date '2026-03-02', 0::bigint),
    ('parquet_integers-3', 'c1', date '2026-03-02', -7::bigint),
    ('parquet_integers-4', 'c1', date '2026-03-02', 9223372036854775807::bigint)
) as delivered (transaction_id, customer_id, transaction_date, transaction_amount)
