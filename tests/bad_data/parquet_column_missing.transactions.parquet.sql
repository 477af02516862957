select 'parquet_column_missing-1' as transaction_id, date '2026-03-02' as transaction_date, 12.5 as transaction_amount, 5 as points
