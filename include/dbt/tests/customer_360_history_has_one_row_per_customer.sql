-- Only the date that this run wrote: the dates before were checked when they were.
select
    customer_id,
    as_of_date,
    count(*) as row_count
from {{ ref('customer_360_history') }}
where as_of_date = {{ as_of_date() }}
group by customer_id, as_of_date
having count(*) > 1
