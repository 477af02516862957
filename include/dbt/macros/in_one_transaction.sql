{% macro in_one_transaction(changes) -%}
    {{ return(adapter.dispatch('in_one_transaction')(changes)) }}
{%- endmacro %}

{% macro default__in_one_transaction(changes) -%}
    {#- The materialization has begun one. -#}
    {{ return(changes) }}
{%- endmacro %}

{% macro snowflake__in_one_transaction(changes) -%}
    {#- One statement: dbt does not roll back after a failed one, and the next model's DDL on its connection would commit the
        half that went through. -#}
    execute immediate $$
    begin
        begin transaction;
        {{ changes | trim }};
        commit;
    exception
        when other then
            rollback;
            raise;
    end;
    $$
{%- endmacro %}
