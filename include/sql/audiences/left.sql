{#- Who was in the export before and is in this one no more, to be removed where the file went. Of this date those too who were
    taken out after it had been exported once. -#}
{% import 'audiences/members.jinja' as members with context -%}
{% set as_of = "cast('" ~ as_of_date ~ "' as date)" -%}
{% set before = "cast('" ~ previous ~ "' as date)" if previous else "cast(null as date)" -%}

with {{ members.exported(as_of) }},

were_there as (

    select customer_id
    from memberships
    where
        (as_of_date = {{ before }}{{ " or as_of_date = " ~ as_of if exported_before }})
        and (status = 'exported' or reason = 'after decision')
    group by customer_id

),

final as (

    select
        were_there.customer_id as id_of_member,
        profiles.*
    from were_there
    left join profiles on were_there.customer_id = profiles.customer_id
    where were_there.customer_id not in (select exported.customer_id from exported)

)

select
    {%- for column in columns %}
    {{ 'id_of_member as customer_id' if column == 'customer_id' else column }}{{ ',' if not loop.last }}
    {%- endfor %}
from final
order by id_of_member
