{#- Text that is compared with a list of names: without blanks around it, in lower case. Plain Jinja, without anything of dbt's: the
    validations import it too. DuckDB's trim alone takes other blanks than Snowflake's, so those to take are named. -#}

{% macro trimmed(text) -%}
    trim({{ text }}, ' ' || chr(9) || chr(10) || chr(11) || chr(12) || chr(13))
{%- endmacro %}

{% macro normalised(text) -%}
    nullif(lower({{ trimmed(text) }}), '')
{%- endmacro %}
