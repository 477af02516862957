with profiles as (

    select * from marts.customer_360_profile

),

final as (

    select
        customer_id,
        full_name,
        email,
        lifetime_value,
        spend_change_pct
    from profiles
    where
        eligible_for_retention_campaign = true
        and lifetime_value >= 50000

)

select * from final
order by {{ campaign.order_by }}
limit {{ campaign.limit }}
