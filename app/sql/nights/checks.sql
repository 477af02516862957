select
    mart,
    check_name,
    severity,
    observed,
    expected,
    passed,
    checked_at
from marts.validation_results
where dag_run_id = ?
order by
    mart,
    check_name,
    checked_at
