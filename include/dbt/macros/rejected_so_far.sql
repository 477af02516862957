{% macro rejected_so_far(fact) -%}
    {#- The rejected_transactions that the last run left beside the fact; none before the first run. Not a ref: it is rebuilt
        after the fact. -#}
    {{ return(adapter.get_relation(fact.database, fact.schema, 'rejected_transactions')) }}
{%- endmacro %}
