select
    as_of_date,
    state,
    failed_task,
    reason,
    published,
    started_at
from marts.nights
where
    dag_id = 'customer_360_refresh'
    -- Not a backfill, which readers see nothing of.
    and as_of_date >= ?
order by ended_at desc, dag_run_id
limit 1
