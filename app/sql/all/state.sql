select
    dag_run_id,
    as_of_date,
    published_at
from marts.publications
where mart = 'customer_360_profile'
order by published_at desc, as_of_date desc
limit 1
