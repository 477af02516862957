with last_night as (

    select
        dag_run_id,
        as_of_date,
        ended_at
    from marts.nights
    where
        dag_id = 'customer_360_refresh'
        and state = 'success'
        and published
    order by
        ended_at desc,
        dag_run_id
    limit 1

)

select
    last_night.as_of_date,
    last_night.ended_at,
    count(results.check_name) as checks,
    coalesce(sum(case when results.passed then 1 else 0 end), 0) as passed
from last_night
left join marts.validation_results as results
    on last_night.dag_run_id = results.dag_run_id
group by
    last_night.as_of_date,
    last_night.ended_at
