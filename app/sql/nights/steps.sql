select
    task_id,
    state,
    started_at,
    seconds
from marts.night_steps
where dag_run_id = ?
order by
    seconds desc nulls last,
    task_id
