select
    mart,
    as_of_date,
    row_count,
    lifetime_value,
    published_at
from marts.publications
where dag_run_id = ?
order by mart
