-- Of each date the last export.
select
    as_of_date,
    entered,
    left_audience
from marts.export_runs
where
    campaign = ?
    and destination = ?
    and state = 'exported'
qualify row_number() over (
    partition by as_of_date
    order by finished_at desc nulls last, dag_run_id desc
) = 1
order by as_of_date
