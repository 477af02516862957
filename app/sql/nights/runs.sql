select
    dag_run_id,
    as_of_date,
    run_type,
    state,
    started_at,
    ended_at,
    published,
    failed_task,
    reason
from marts.nights
where dag_id = 'customer_360_refresh'
qualify row_number() over (order by ended_at desc, dag_run_id) <= ?
order by
    ended_at desc,
    dag_run_id
