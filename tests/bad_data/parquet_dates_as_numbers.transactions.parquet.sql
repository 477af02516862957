select * from (values
    ('parquet_dates_as_numbers-1', 'c1', 20260302, 12.5),
    ('parquet_dates_as_numbers-2', 'c1', 20260303, 12.5)
) as delivered (transaction_id, customer_id, transaction_date, transaction_amount)
