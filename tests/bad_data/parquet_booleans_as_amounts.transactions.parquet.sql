select 'parquet_booleans_as_amounts-1' as transaction_id, 'c1' as customer_id, date '2026-03-02' as transaction_date, true as transaction_amount
