{#- Who was in the export before, `previous` (a date, or nothing), and is in this one no more, to be removed where
    the file went. Of this date too whoever was chosen and taken out since, whether it was exported meanwhile or
    not: so it is the same each time. Of who was chosen then and is in no mart any more, the id alone. `selected` is
    of `columns` and of `enters`, as in audience.sql. -#}
{% import 'audiences/addresses.jinja' as addresses with context -%}
{% import 'audiences/members.jinja' as members with context -%}
{% set as_of = "cast('" ~ as_of_date ~ "' as date)" -%}
{% set before = "cast('" ~ previous ~ "' as date)" -%}

with {{ members.imports(as_of) }},
{%- if previous %}

{{ members.exported(as_of) }},
{%- endif %}

taken_out as (

    select memberships.customer_id
    from memberships
    left join profiles on memberships.customer_id = profiles.customer_id
    where
        memberships.as_of_date = {{ as_of }}
        and (
            (memberships.reason = 'after decision' and memberships.split_group = 'treated')
            or (
                memberships.status = 'exported'
                and (
                    profiles.customer_id is null
                    or {{ members.is_suppressed(
                        'profiles.customer_id',
                        addresses.address_hash(addresses.normalised_address('profiles.email'))
                    ) }}
                )
            )
        )

),

were_there as (

    select customer_id from taken_out
    {%- if previous %}
    union distinct
    select customer_id
    from memberships
    where
        as_of_date = {{ before }}
        and (status = 'exported' or (reason = 'after decision' and split_group = 'treated'))
        and customer_id not in (select exported.customer_id from exported)
    {%- endif %}

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

)

select
    {{ selected | default('*') }}
from final
order by customer_id
