{{
    config(
        materialized='incremental',
        incremental_strategy='replace_months',
        cluster_by=clustered_by('month'),
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
        {{ customer_month_measures() }}
    from counted
    group by customer_id, month

)

select * from final
