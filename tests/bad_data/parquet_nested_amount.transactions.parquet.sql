select * from (values
    ('parquet_nested_amount-1', 'c1', date '2026-03-02', {'value': 12.5, 'currency': 'USD'}),
    ('parquet_nested_amount-2', 'c1', date '2026-03-02', {'value': 7.0, 'currency': 'USD'})
) as delivered (transaction_id, customer_id, transaction_date, transaction_amount)
