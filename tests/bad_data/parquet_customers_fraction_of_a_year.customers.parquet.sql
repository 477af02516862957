select 'parquet_customers_fraction_of_a_year-1' as customer_id, 41.5::double as age
