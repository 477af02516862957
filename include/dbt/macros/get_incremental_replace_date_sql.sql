{% macro get_incremental_replace_date_sql(arguments) -%}
    {#- The rows of as_of_date leave the table, and those just computed come in. -#}
    {{ replace_rows(arguments, 'as_of_date = ' ~ (as_of_date() | trim)) }}
{%- endmacro %}
