{{
    config(
        materialized='incremental',
        incremental_strategy='replace_months',
        cluster_by=['month'],
        on_schema_change='fail',
        post_hook="{{ forget_touched_months() }}"
    )
}}

{% set touched = 'all' %}
{% if is_incremental() %}
{% set touched = touched_months(ref('touched_customer_months')) %}
{% endif %}

with transactions as (

    select * from {{ ref('fct_transactions') }}

),

touched_customer_months as (

    select distinct
        customer_id,
        month
    from {{ ref('touched_customer_months') }}

),

categories as (

    select * from {{ ref('dim_merchant_category') }}

),

dated as (

    select
        customer_id,
        {{ month_of('transaction_date') }} as month,
        transaction_date,
        transaction_amount,
        {{ cents('transaction_amount') }} as cents,
        merchant_category
    from transactions
    where
        status = 'approved'
        {% if touched == 'nothing' %}
        and 1 = 0
        {% elif touched != 'all' %}
        and {{ touched }}
        {% endif %}

),

counted as (

    select
        dated.*,
        categories.is_travel,
        categories.is_necessity
    from dated
    left join categories on dated.merchant_category = categories.merchant_category
    {% if touched != 'all' %}
    inner join touched_customer_months
        on dated.customer_id = touched_customer_months.customer_id and dated.month = touched_customer_months.month
    {% endif %}

),

final as (

    select
        customer_id,
        month,
        count(*) as transaction_count,
        cast(sum(transaction_amount) as decimal(38, 2)) as spend,
        cast(sum(cents * cents) as decimal(38, 0)) as squared_cents,
        min(transaction_amount) as min_transaction_value,
        max(transaction_amount) as max_transaction_value,
        min(transaction_date) as first_transaction_date,
        max(transaction_date) as last_transaction_date,
        cast(sum(case when is_travel then transaction_amount else 0 end) as decimal(38, 2)) as travel_spend,
        cast(sum(case when is_necessity then transaction_amount else 0 end) as decimal(38, 2)) as necessities_spend
    from counted
    group by customer_id, month

)

select * from final
