select
    arrival_day,
    row_count
from marts.source_days
-- The first day of all stands for rows that say no time of arrival.
where arrival_day > cast('0001-01-01' as date)
qualify row_number() over (order by arrival_day desc) <= ?
order by arrival_day desc
