select
    'parquet_customers-1' as customer_id, 41.0::double as age, 5000::bigint as credit_limit, true as marketing_opt_in,
    timestamptz '2012-01-01 03:30:00+00' as account_open_date, timestamptz '2012-01-02 03:04:05+00' as updated_at
