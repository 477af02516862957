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

{% macro replace_rows(arguments, leaves) -%}
    {%- set columns = get_quoted_csv(arguments.dest_columns | map(attribute='name')) -%}
    {%- set changes -%}
        delete from {{ arguments.target_relation }}
        where {{ leaves }};
        insert into {{ arguments.target_relation }} ({{ columns }})
        select {{ columns }}
        from {{ arguments.temp_relation }}
    {%- endset -%}
    {{ in_one_transaction(changes) }}
{%- endmacro %}
