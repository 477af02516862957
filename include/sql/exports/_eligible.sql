{#- Who is eligible for a campaign that its exposure says whole. A campaign that needs more has a template of its
    name. -#}
with profiles as (

    select * from marts.customer_360_profile

),

final as (

    select customer_id
    from profiles
    where
        {{ campaign.conditions | join('\n        and ') }}

)

select * from final
