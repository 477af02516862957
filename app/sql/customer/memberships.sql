select
    campaign,
    as_of_date,
    status,
    reason,
    entered,
    entered_on
from marts.audience_memberships
where customer_id = ?
qualify row_number() over (order by as_of_date desc, campaign) <= ?
order by
    as_of_date desc,
    campaign
