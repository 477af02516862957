{#- How many customers of each campaign came to which end on a date, and how many of them entered. -#}
select
    campaign,
    status,
    reason,
    count(*) as customers,
    sum(case when entered then 1 else 0 end) as entered
from {{ memberships }}
where as_of_date = cast('{{ as_of_date }}' as date)
group by
    campaign,
    status,
    reason
order by
    campaign,
    status,
    reason
