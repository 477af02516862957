select
    customer_360_profile.customer_id,
    customer_360_profile.customer_segment,
    customer_360_profile.state,
    customer_360_profile.card_type,
    customer_360_profile.recency_status,
    customer_360_profile.lifetime_value,
    customer_360_profile.spend_last_90_days,
    customer_360_profile.spend_change_pct
from marts.customer_360_profile as customer_360_profile
where
    {conditions}
qualify
    row_number() over (
        order by customer_360_profile.lifetime_value desc nulls last, customer_360_profile.customer_id
    ) <= ?
order by
    customer_360_profile.lifetime_value desc nulls last,
    customer_360_profile.customer_id
