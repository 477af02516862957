{% macro snowflake__create_schema(relation) -%}
    {#- Schemas of a run have managed access as those of the set-up have: the owner of a table in them cannot grant it. -#}
    {%- call statement('create_schema') -%}
        create schema if not exists {{ relation.without_identifier() }}
        {%- if target.name == 'snowflake' %} with managed access{% endif %}
    {%- endcall -%}
{%- endmacro %}
