{% macro ids_within(ids, column) -%}
    {#- A condition that holds for every transaction_id of `ids` (a query or a relation), and for few others: a literal range
        per group of ids that are alike but for their last six characters, by which both engines skip most of a table in which ids grow with time. `true` where
        ids are of another kind: scattered, or not to be written down as they are. -#}
    {%- set ranges -%}
        select
            min(transaction_id) as first_id,
            max(transaction_id) as last_id
        from {{ ids }}
        group by substr(transaction_id, 1, greatest(length(transaction_id) - 6, 0))
    {%- endset -%}
    {%- set found = run_query(ranges) if execute else none -%}
    {%- if found is none or found.rows | length > 50 -%}
        {{ return('true') }}
    {%- endif -%}
    {%- set conditions = [] -%}
    {%- for first_id, last_id in found.rows if first_id is not none -%}
        {%- if not modules.re.fullmatch('[A-Za-z0-9_-]+', first_id ~ last_id) -%}
            {{ return('true') }}
        {%- endif -%}
        {%- do conditions.append(column ~ " between '" ~ first_id ~ "' and '" ~ last_id ~ "'") -%}
    {%- endfor -%}
    {{ return('(' ~ conditions | join(' or ') ~ ')' if conditions else 'false') }}
{%- endmacro %}
