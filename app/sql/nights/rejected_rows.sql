select
    reason,
    row_count
from marts.rejected_rows
order by
    row_count desc,
    reason
