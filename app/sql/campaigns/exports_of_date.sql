-- The last try of each destination.
select
    destination,
    state,
    reason,
    exported,
    finished_at
from marts.export_runs
where
    campaign = ?
    and as_of_date = ?
qualify row_number() over (
    partition by destination
    order by finished_at desc nulls last, dag_run_id desc
) = 1
order by destination
