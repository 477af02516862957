-- depends_on: {{ ref('stg_transactions') }}, {{ ref('stg_transaction_rows') }}, {{ ref('stg_transaction_days') }}
-- depends_on: {{ ref('customers_snapshot') }}, {{ ref('touched_customer_months') }}
{{
    config(
        materialized='incremental',
        unique_key='transaction_id',
        incremental_strategy='replace_touched',
        cluster_by=clustered_by('transaction_date'),
        on_schema_change='fail',
        pre_hook=["{{ forget_all_days() }}", "{{ touch_all_months() }}"]
    )
}}

{% set arrivals = 'all' %}
{% if is_incremental() %}
{% set arrivals = arrivals_to_load(
    ref('stg_transaction_days'), loaded_days(this), rejected_so_far(this), ref('customers_snapshot')
) %}
{% elif load_arrived_before() %}
{% set arrivals = arrivals_to_load(ref('stg_transaction_days'), none, none, ref('customers_snapshot')) %}
{% endif %}

{% if arrivals == 'all' %}

with final as (

    select * from {{ ref('stg_transactions') }}

)

{% elif arrivals == 'nothing' %}

with final as (

    select
        {{ transaction_columns() }}
    from {{ this if is_incremental() else ref('stg_transaction_rows') }}
    where 1 = 0

)

{% else %}

{% set touched_ids -%}
    select transaction_id
    from {{ ref('stg_transaction_rows') }}
    where
        transaction_id is not null
        and {{ arrivals }}
    {%- if is_incremental() %}
    -- What these days had, and raw has no longer.
    union distinct
    select transaction_id
    from {{ this }}
    where {{ arrivals }}
    {%- endif %}
{%- endset %}

with transaction_rows as (

    select * from {{ ref('stg_transaction_rows') }}

),

touched as (

    {{ touched_ids }}

),

-- All rows of a touched transaction, whenever they arrived: the latest of all wins.
new_rows as (

    select
        {{ competing_columns() }}
    from transaction_rows
    where
        reject_reason is null
        and {{ ids_within('(' ~ touched_ids ~ ') as touched', 'raw_transaction_id') }}
        and transaction_id in (select touched.transaction_id from touched)

),

latest as (

    {{ latest_ingested('new_rows') }}

),

final as (

    select
        {{ transaction_columns() }}
    from latest
    {%- if is_incremental() %}
    -- Nothing but its id of what has no usable row any more: it leaves the fact (get_incremental_replace_touched_sql).
    union all
    select
        transaction_id,
        cast(null as varchar) as customer_id,
        cast(null as date) as transaction_date,
        cast(null as decimal(18, 2)) as transaction_amount,
        cast(null as varchar) as merchant_name,
        cast(null as varchar) as merchant_category,
        cast(null as varchar) as channel,
        cast(null as varchar) as status,
        cast(null as timestamp) as ingested_at
    from touched
    where transaction_id not in (select latest.transaction_id from latest)
    {%- endif %}

)

{% endif %}

select * from final
