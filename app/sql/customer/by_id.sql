-- As it is written: what the table is sorted by finds it without a look at every row.
select
    customer_id,
    full_name,
    city,
    state,
    count(*) over () as hits
from marts.customer_360_profile
where customer_id = ?
qualify row_number() over (order by customer_id) <= ?
order by customer_id
