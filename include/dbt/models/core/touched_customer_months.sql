{{
    config(
        materialized='incremental',
        incremental_strategy='append',
        schema='ops',
        full_refresh=false
    )
}}

-- Filled by the load of the fact, emptied by fct_customer_months: see macros/touched_months.sql.
with final as (

    select
        cast(null as varchar) as customer_id,
        cast(null as date) as month
    where 1 = 0

)

select * from final
