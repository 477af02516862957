select
    wave_date,
    horizon_days,
    treated_customers,
    held_out_customers,
    lift,
    lift_low,
    lift_high,
    lift_pct,
    is_significant,
    minimum_detectable_effect
from marts.campaign_results
where campaign = ?
order by
    wave_date desc,
    horizon_days
