{#- The exported customers of one audience, in its order, with what its file holds and, last, whether each is to enter where the file
    goes: who was not in the export before, `previous` (a date, or nothing), or is forgotten there by now. -#}
{% import 'audiences/members.jinja' as members with context -%}
{% set as_of = "cast('" ~ as_of_date ~ "' as date)" -%}
{% set before = "cast('" ~ previous ~ "' as date)" if previous else "cast(null as date)" -%}

with {{ members.exported(as_of) }},

previous as (

    select customer_id
    from memberships
    where
        as_of_date = {{ before }}
        and status = 'exported'

),

final as (

    select
        exported.*,
        previous.customer_id is null
        {%- if destination.lifetime_days %}
        or floor(datediff('day', exported.entered_on, {{ as_of }}) / {{ destination.lifetime_days }})
        > floor(datediff('day', exported.entered_on, {{ before }}) / {{ destination.lifetime_days }})
        {%- endif %}
            as enters
    from exported
    left join previous on exported.customer_id = previous.customer_id

)

select
    {%- for column in columns %}
    {{ column }},
    {%- endfor %}
    enters
from final
order by audience_rank
