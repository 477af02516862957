select
    publication_id,
    as_of_date,
    published_at,
    copied_at
from marts.publication_state
