select
    max(as_of_date) as last_decided,
    min(case when entered then as_of_date end) as first_wave
from marts.audience_memberships
where campaign = ?
