-- Who is eligible by the profile as it is now, and who of them is in the audience that was last decided.
with eligible as (

    select customer_id
    from marts.customer_360_profile
    where
        {conditions}

),

members as (

    select customer_id
    from marts.audience_memberships
    where
        campaign = ?
        and as_of_date = ?
        and status in ('exported', 'held_out')

)

select
    count(*) as eligible,
    count(members.customer_id) as in_the_audience
from eligible
left join members
    on eligible.customer_id = members.customer_id
