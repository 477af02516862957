-- Which of the texts in a statement are ids of customers.
select customer_id
from marts.customer_360_profile
where lower(customer_id) in ({texts})
order by customer_id
