select 1234567890123::bigint as transaction_id, 'c1' as customer_id, date '2026-03-02' as transaction_date, 12.5 as transaction_amount,
    'parquet_numbers_as_ids-1' as merchant_name
