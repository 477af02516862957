{#- Are there sources, and are those of as_of_date there? -#}
{% import 'validations/sources_ready.jinja' as ready with context -%}

with customers as (

    select count(*) as row_count from raw.customers

),

-- Snowflake has all of these in the table's metadata.
transactions as (

    select
        count(*) as row_count,
        min(transaction_date) as first_date,
        max(transaction_date) as last_date,
        max(ingested_at) as last_arrival
    from raw.transactions

),

{{ ready.profile() }},

final as (

    select
        'sources_customers_not_empty' as check_name,
        'error' as severity,
        row_count || ' rows in raw.customers' as observed,
        'at least 1 row' as expected,
        row_count > 0 as passed
    from customers
    union all
    select
        'sources_transactions_not_empty' as check_name,
        'error' as severity,
        row_count || ' rows in raw.transactions' as observed,
        'at least 1 row' as expected,
        row_count > 0 as passed
    from transactions
    {{ ready.checks() }}

)

select * from final
