{% if has_audience_memberships() %}

with final as (

    select
        campaign,
        as_of_date,
        customer_id,
        status,
        split_group,
        entered
    from {{ source('ops', 'audience_memberships') }}

)

{% else %}

with final as (

    select
        cast(null as varchar) as campaign,
        cast(null as date) as as_of_date,
        cast(null as varchar) as customer_id,
        cast(null as varchar) as status,
        cast(null as varchar) as split_group,
        cast(null as boolean) as entered
    where 1 = 0

)

{% endif %}

select * from final
