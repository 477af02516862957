-- depends_on: {{ ref('rejected_transactions') }}
{{ config(schema='ops') }}

{% set before = loaded_days(this) if execute else none %}

{% if loads_transactions() or before is none %}

-- As they were before the load, never from raw anew: what has arrived since then is not loaded yet.
with days as (

    select * from {{ ref('stg_transaction_days') }}

),

{% else %}

-- This run loads no transactions.
with days as (

    select * from {{ before }}

),

{% endif %}

final as (

    select
        arrival_day,
        row_count,
        checksum,
        loading_rules
    from days
    {% if not loads_transactions() and before is none %}
    where false
    {% elif loads_transactions() and load_arrived_before() and before is not none %}
    -- What a load in ranges has not looked at.
    union all
    select
        arrival_day,
        row_count,
        checksum,
        loading_rules
    from {{ before }}
    where not ({{ day_in_range('arrival_day') }})
    {% endif %}

)

select * from final
