{#- Fill in: what the exposure's eligibility cannot say. It may use `campaign` (columns, conditions, order_by, limit, name)
    and `as_of_date`; the first column is customer_id. -#}
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
