{{ config(materialized='view') }}

with memberships as (

    select * from {{ ref('stg_audience_memberships') }}

),

final as (

    select
        campaign,
        as_of_date as wave_date,
        customer_id,
        split_group
    from memberships
    where
        entered
        and status in ('exported', 'held_out')

)

select * from final
