{#- Are there sources, and are they fresh? -#}
{% from 'validations/checks.jinja' import as_of with context -%}
{% set oldest_days = 3 -%}

with customers as (

    select count(*) as row_count from raw.customers

),

transactions as (

    select
        count(*) as row_count,
        max(case when transaction_date <= {{ as_of }} then transaction_date end) as latest_date
    from raw.transactions

),

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
    union all
    select
        'sources_transactions_fresh' as check_name,
        '{{ freshness_severity }}' as severity,
        coalesce(
            datediff('day', latest_date, {{ as_of }}) || ' days: latest transaction_date is ' || latest_date,
            'no transaction on or before {{ as_of_date }}'
        ) as observed,
        'at most {{ oldest_days }} days older than {{ as_of_date }}' as expected,
        coalesce(datediff('day', latest_date, {{ as_of }}) <= {{ oldest_days }}, false) as passed
    from transactions

)

select * from final
