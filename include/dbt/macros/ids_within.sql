{% macro ids_within(ids, column) -%}
    {#- A condition that holds for every transaction_id of `ids` (a query or a relation), and for few others: a literal range
        per group of ids that are alike but for their last six characters, by which both engines skip most of a table in which ids grow with time. Of more
        than 50 groups the one range that spans them. `true` where ids are not to be written down as they are. -#}
    {%- set ranges -%}
        with ids as (

            select transaction_id from {{ ids }}

        ),

        ranges as (

            select
                min(transaction_id) as first_id,
                max(transaction_id) as last_id
            from ids
            group by substr(transaction_id, 1, greatest(length(transaction_id) - 6, 0))

        ),

        counted as (

            select count(*) as range_count from ranges

        )

        select
            ranges.first_id,
            ranges.last_id
        from ranges
        cross join counted
        where counted.range_count <= 50
        union all
        select
            min(ranges.first_id) as first_id,
            max(ranges.last_id) as last_id
        from ranges
        cross join counted
        where counted.range_count > 50
    {%- endset -%}
    {%- set conditions = [] -%}
    {%- for first_id, last_id in (run_query(ranges).rows if execute else []) if first_id is not none -%}
        {%- if not modules.re.fullmatch('[A-Za-z0-9_-]+', first_id ~ last_id) -%}
            {{ return('true') }}
        {%- endif -%}
        {%- do conditions.append(column ~ " between '" ~ first_id ~ "' and '" ~ last_id ~ "'") -%}
    {%- endfor -%}
    {{ return('true' if not execute else '(' ~ conditions | join(' or ') ~ ')' if conditions else 'false') }}
{%- endmacro %}
