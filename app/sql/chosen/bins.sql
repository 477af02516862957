-- Customers by the bin of their lifetime value, counted from 0.
select
    cast(floor(customer_360_profile.lifetime_value / ?) as integer) as bin,
    count(*) as customers
from marts.customer_360_profile as customer_360_profile
where
    {conditions}
group by 1
order by 1
