-- How many customers are chosen, and how many of them agreed to be written to and have an account.
select
    count(*) as chosen,
    count(case when {reachable} then customer_360_profile.customer_id end) as reachable
from marts.customer_360_profile as customer_360_profile
where
    {conditions}
