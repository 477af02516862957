{#- How many customers of each campaign came to which end on a date, and how many of them entered. -#}
select
    memberships.campaign,
    memberships.status,
    memberships.reason,
    count(*) as customers,
    sum(case when memberships.entered then 1 else 0 end) as entered
from {{ memberships }} as memberships
where memberships.as_of_date = cast('{{ as_of_date }}' as date)
group by
    memberships.campaign,
    memberships.status,
    memberships.reason
order by
    memberships.campaign,
    memberships.status,
    memberships.reason
