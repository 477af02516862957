{#- Who was in the export before, `previous` (a date, or nothing), and is in this one no more, to be removed where
    the file went. Of this date too whoever was chosen and taken out since, whether it was exported meanwhile or
    not: so it is the same each time. Of who was chosen then and is in no mart any more, the id alone. `selected` is
    of `columns` and of `enters`, as in audience.sql. -#}
{% import 'audiences/members.jinja' as members with context -%}
{% set as_of = "cast('" ~ as_of_date ~ "' as date)" -%}
{% set before = "cast('" ~ previous ~ "' as date)" if previous else "cast(null as date)" -%}

with {{ members.exported(as_of) }},

were_there as (

    select customer_id
    from memberships
    where
        as_of_date in ({{ before }}, {{ as_of }})
        and (status = 'exported' or (reason = 'after decision' and split_group = 'treated'))
    group by customer_id

),

final as (

    select
        {%- for column in columns if column != 'customer_id' %}
        profiles.{{ column }},
        {%- endfor %}
        were_there.customer_id,
        false as enters
    from were_there
    left join profiles on were_there.customer_id = profiles.customer_id
    where were_there.customer_id not in (select exported.customer_id from exported)

)

select
    {{ selected | default('*') }}
from final
order by customer_id
