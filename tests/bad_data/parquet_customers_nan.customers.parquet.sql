select 'parquet_customers_nan-1' as customer_id, 'nan'::double as credit_limit
