{#- Are there sources, are those of as_of_date there, and do they speak of what is known? -#}
{% import 'validations/sources_ready.jinja' as ready with context %}
{% import 'validations/sources_names.jinja' as names with context -%}

with customers as (

    select count(*) as row_count from raw.customers

),

-- Snowflake has all of these in the table's metadata. Dates may be text: what is no date may then be the first of them, and
-- says nothing about the first day.
transactions as (

    select
        count(*) as row_count,
        coalesce(
            try_cast(substr(cast(min(transaction_date) as varchar), 1, 10) as date),
            case when max(transaction_date) is not null then cast('{{ vars.calendar_first_day }}' as date) end
        ) as first_date,
        substr(cast(max(transaction_date) as varchar), 1, 10) as last_date,
        max(ingested_at) as last_arrival
    from raw.transactions

),

{{ ready.profile() }},

{{ names.counts() }},

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
    {{ names.checks() }}

)

select * from final
