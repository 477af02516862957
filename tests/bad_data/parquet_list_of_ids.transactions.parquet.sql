select ['parquet_list_of_ids-1'] as transaction_id, 'c1' as customer_id, date '2026-03-02' as transaction_date, 12.5 as transaction_amount
