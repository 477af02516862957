select
    status,
    reason,
    count(*) as customers
from marts.audience_memberships
where
    campaign = ?
    and as_of_date = ?
    and status in ('suppressed', 'capped', 'outranked', 'over_limit')
group by
    status,
    reason
order by
    customers desc,
    status,
    reason
