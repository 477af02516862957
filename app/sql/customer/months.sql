select
    month,
    monthly_spend,
    prior_month_spend,
    mom_change_pct,
    mom_trend_category
from marts.metric_mom_spend_change
where customer_id = ?
order by month
