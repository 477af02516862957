{% macro in_one_transaction(changes) -%}
    {{ return(adapter.dispatch('in_one_transaction')(changes)) }}
{%- endmacro %}

{% macro default__in_one_transaction(changes) -%}
    {#- The materialization has begun one. -#}
    {{ return(changes) }}
{%- endmacro %}

{% macro snowflake__in_one_transaction(changes) -%}
    {{ return(snowflake_dml_explicit_transaction(changes)) }}
{%- endmacro %}
