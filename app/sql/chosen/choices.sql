select
    customer_segment,
    state,
    card_type,
    max(lifetime_value) as highest_lifetime_value
from marts.customer_360_profile
group by
    customer_segment,
    state,
    card_type
order by
    customer_segment,
    state,
    card_type
