{% test ranges_join(model, partition_by, valid_from, valid_to) %}
{#- Ranges [valid_from, valid_to) of one key follow each other without gap or overlap, and the last is open-ended. -#}

with ranges as (

    select
        {{ partition_by }},
        {{ valid_from }},
        {{ valid_to }},
        lead({{ valid_from }}) over (
            partition by {{ partition_by }}
            order by {{ valid_from }} asc, {{ valid_to }} asc
        ) as next_valid_from
    from {{ model }}

)

select *
from ranges
where
    {{ valid_from }} is null
    or {{ valid_from }} > {{ valid_to }}
    or coalesce(next_valid_from, cast('9999-12-31' as date)) <> {{ valid_to }}

{% endtest %}
