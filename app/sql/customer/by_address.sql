select
    customer_id,
    full_name,
    city,
    state,
    count(*) over () as hits
from marts.customer_360_profile
where lower(email) = lower(?)
qualify row_number() over (order by customer_id) <= ?
order by customer_id
