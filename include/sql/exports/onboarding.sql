with profiles as (

    select * from marts.customer_360_profile

),

final as (

    select
        customer_id,
        full_name,
        email,
        tenure_months,
        spend_change_pct,
        avg_monthly_spend
    from profiles
    where
        eligible_for_onboarding_campaign = true

)

select * from final
order by {{ campaign.order_by }}
limit {{ campaign.limit }}
