{% macro run_schema(schema) -%}
    {#- For what depends on as_of_date: the schema of one run when RUN_SCHEMA names one, else the schema given. Set in the
        models, not in generate_schema_name: a variable that changes there parses the whole project again. -#}
    {{ return(env_var('RUN_SCHEMA', '') or schema) }}
{%- endmacro %}
