{#- The audience of a campaign that its exposure says whole. A campaign that needs more has a template of its name. -#}
with profiles as (

    select * from marts.customer_360_profile

),

final as (

    select *
    from profiles
    where
        {{ campaign.conditions | join('\n        and ') }}

)

select
    {{ campaign.columns | join(',\n    ') }}
from final
order by {{ campaign.order_by }}
limit {{ campaign.limit }}
