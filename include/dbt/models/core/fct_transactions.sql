-- depends_on: {{ ref('stg_transactions') }}, {{ ref('stg_transaction_rows') }}, {{ ref('stg_transaction_days') }}
-- depends_on: {{ ref('customers_snapshot') }}
{{
    config(
        materialized='incremental',
        unique_key='transaction_id',
        incremental_strategy='replace_touched',
        cluster_by=['transaction_date'],
        on_schema_change='fail',
        pre_hook="{{ forget_all_days() }}"
    )
}}

{% set load = 'all' %}
{% if is_incremental() %}
{% set loaded = loaded_days(this) %}
{% set rejected = rejected_so_far(this) %}
{% set load = transactions_to_load(ref('stg_transaction_days'), loaded, rejected, ref('customers_snapshot')) %}
{% endif %}

{% if load == 'all' %}

with final as (

    select * from {{ ref('stg_transactions') }}

)

{% elif load == 'nothing' %}

with final as (

    select
        {{ transaction_columns() }}
    from {{ this }}
    where false

)

{% else %}

with transaction_rows as (

    select * from {{ ref('stg_transaction_rows') }}

),

loaded_rows as (

    select
        transaction_id,
        ingested_at
    from {{ this }}

),

customers as (

    select distinct customer_id from {{ ref('customers_snapshot') }}

),

changed_days as (

    {{ changed_days(ref('stg_transaction_days'), loaded) }}

),

touched as (

    select transaction_id
    from transaction_rows
    where
        transaction_id is not null
        and {{ arrival_day('ingested_at') }} in (select changed_days.arrival_day from changed_days)
    -- What a changed day had, and raw has no longer.
    union distinct
    select transaction_id
    from loaded_rows
    where {{ arrival_day('ingested_at') }} in (select changed_days.arrival_day from changed_days)
    {% if rejected is not none %}
    -- However long ago they arrived.
    union distinct
    {{ customer_has_come(rejected, 'customers') }}
    {% endif %}

),

-- All rows of a touched transaction, whenever they arrived: the latest of all wins.
new_rows as (

    select
        {{ transaction_columns() }}
    from transaction_rows
    where
        reject_reason is null
        and transaction_id in (select touched.transaction_id from touched)

),

latest as (

    {{ latest_ingested('new_rows') }}

),

final as (

    select
        {{ transaction_columns() }}
    from latest
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

)

{% endif %}

select * from final
