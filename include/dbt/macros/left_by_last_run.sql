{#- Tables that the last run left, which no model may ref: they are rebuilt after the fact, which reads them. None before the
    first run. Named as the fact is, for on Snowflake dbt quotes what it finds. -#}

{% macro rejected_so_far(fact) -%}
    {{ return(left_by_last_run(fact, fact.schema, 'rejected_transactions')) }}
{%- endmacro %}

{% macro loaded_days(fact) -%}
    {{ return(left_by_last_run(fact, generate_schema_name('ops', model) | trim, 'loaded_transaction_days')) }}
{%- endmacro %}

{% macro left_by_last_run(fact, schema, name) -%}
    {%- if adapter.get_relation(fact.database, schema, name) is not none -%}
        {{ return(fact.incorporate(path={'schema': schema, 'identifier': name})) }}
    {%- endif -%}
    {{ return(none) }}
{%- endmacro %}
