{#- The exported customers of one audience, in its order. `selected` is of `columns`, which its file holds, and of
    `enters`: whether a customer is to enter where the file goes, being none of the export before, `previous` (a
    date, or nothing), or forgotten there by now. -#}
{% import 'audiences/members.jinja' as members with context -%}
{% set as_of = "cast('" ~ as_of_date ~ "' as date)" -%}
{% set before = "cast('" ~ previous ~ "' as date)" if previous else "cast(null as date)" -%}

with {{ members.imports(as_of) }},

{{ members.exported(as_of) }},

previous as (

    select customer_id
    from memberships
    where
        as_of_date = {{ before }}
        and status = 'exported'

),

final as (

    select
        {%- for column in columns %}
        exported.{{ column }},
        {%- endfor %}
        exported.audience_rank,
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
    {{ selected | default('*') }}
from final
order by audience_rank
