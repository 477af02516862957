select
    customer_360_profile.customer_id,
    customer_360_profile.full_name,
    customer_360_profile.email
from marts.customer_360_profile as customer_360_profile
where
    {conditions}
order by
    customer_360_profile.lifetime_value desc nulls last,
    customer_360_profile.customer_id
