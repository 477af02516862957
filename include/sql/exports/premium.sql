with profiles as (

    select * from marts.customer_360_profile

),

final as (

    select
        customer_id,
        full_name,
        email,
        lifetime_value,
        travel_spend_pct
    from profiles
    where
        eligible_for_premium_campaign = true

)

select * from final
order by {{ campaign.order_by }}
limit {{ campaign.limit }}
