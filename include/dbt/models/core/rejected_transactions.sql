-- depends_on: {{ ref('stg_transaction_rows') }}, {{ ref('stg_transaction_days') }}, {{ ref('customers_snapshot') }}
-- depends_on: {{ ref('fct_transactions') }}
{{
    config(
        materialized='incremental',
        incremental_strategy='replace_arrivals',
        on_schema_change='fail'
    )
}}

{% set arrivals = 'all' %}
{% if is_incremental() %}
{% set arrivals = arrivals_to_load(
    ref('stg_transaction_days'), loaded_days(ref('fct_transactions')), this, ref('customers_snapshot')
) %}
{% elif load_arrived_before() %}
{% set arrivals = arrivals_to_load(ref('stg_transaction_days'), none, none, ref('customers_snapshot')) %}
{% endif %}

-- Built after the fact: the fact's next load reads what this table holds now.
with transaction_rows as (

    select * from {{ ref('stg_transaction_rows') }}

),

final as (

    select
        transaction_id,
        reject_reason,
        customer_id,
        raw_transaction_date,
        raw_transaction_amount,
        merchant_name,
        raw_merchant_category,
        channel,
        status,
        ingested_at
    from transaction_rows
    where
        reject_reason is not null
        {% if arrivals == 'nothing' %}
        and 1 = 0
        {% elif arrivals != 'all' %}
        and {{ arrivals }}
        {% endif %}

)

select * from final
