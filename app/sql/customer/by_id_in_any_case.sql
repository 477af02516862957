-- For who is found by no id as it is written: this looks at every row.
select
    customer_id,
    full_name,
    city,
    state,
    count(*) over () as hits
from marts.customer_360_profile
where lower(customer_id) = lower(?)
qualify row_number() over (order by customer_id) <= ?
order by customer_id
