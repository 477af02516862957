with named as (

    select
        customer_id,
        full_name,
        city,
        state,
        -- A typed apostrophe finds a typographic one, and the other way round.
        replace(lower(full_name), '’', '''') as searched
    from marts.customer_360_profile

)

select
    customer_id,
    full_name,
    city,
    state,
    count(*) over () as hits
from named
-- contains() takes % and _ as they are.
where
    contains(searched, replace(lower(?), '’', ''''))
    and contains(searched, replace(lower(?), '’', ''''))
    and contains(searched, replace(lower(?), '’', ''''))
    and contains(searched, replace(lower(?), '’', ''''))
qualify row_number() over (order by full_name, customer_id) <= ?
order by
    full_name,
    customer_id
