select * from (values ('parquet_customers_opt_in_number-1', 1), ('parquet_customers_opt_in_number-2', 0)) as delivered (customer_id, marketing_opt_in)
