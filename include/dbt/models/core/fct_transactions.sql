-- depends_on: {{ ref('stg_transactions') }}, {{ ref('stg_transaction_rows') }}
{{
    config(
        materialized='incremental',
        unique_key='transaction_id',
        incremental_strategy='delete_insert_by_date',
        cluster_by=['transaction_date'],
        on_schema_change='fail'
    )
}}

{% if is_incremental() %}

{% set rejected = rejected_so_far(this) %}

with transaction_rows as (

    select * from {{ ref('stg_transaction_rows') }}

),

touched as (

    select distinct transaction_id
    from transaction_rows
    where
        ingested_at is null
        or ingested_at >= (
            -- A fact without rows takes everything.
            select
                coalesce(
                    {{ dbt.dateadd('day', -var('ingest_lookback_days'), 'max(ingested_at)') }},
                    cast('1900-01-01' as timestamp)
                )
            from {{ this }}
        )
    {% if rejected is not none %}
    -- Turned away earlier for want of a customer who may have come since.
    union all
    select transaction_id
    from {{ rejected }}
    where reject_reason = 'unknown customer'
    {% endif %}

),

-- All rows of a touched transaction, so that an old row read again never replaces a later one.
new_rows as (

    select
        {{ transaction_columns() }}
    from transaction_rows
    where
        reject_reason is null
        and transaction_id in (select touched.transaction_id from touched)

),

final as (

    {{ latest_ingested('new_rows') }}

)

{% else %}

with final as (

    select * from {{ ref('stg_transactions') }}

)

{% endif %}

select * from final
