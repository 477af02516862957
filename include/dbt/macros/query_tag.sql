{#- On Snowflake every statement of a node carries the tag in QUERY_TAG (JSON: dag, run, task, as_of_date) and the node, so that
    credits can be added up per mart. dbt calls these two around each materialization. -#}

{% macro snowflake__set_query_tag() -%}
    {%- do keep_to_target() -%}
    {%- set tag = fromjson(env_var('QUERY_TAG', ''), {}) -%}
    {%- do tag.update({'node': model.name}) -%}
    {%- do run_query("alter session set query_tag = '" ~ (tojson(tag) | replace("'", "''")) ~ "'") -%}
{%- endmacro %}

{% macro snowflake__unset_query_tag(original_query_tag) -%}
    {%- do run_query("alter session set query_tag = '" ~ (env_var('QUERY_TAG', '') | replace("'", "''")) ~ "'") -%}
{%- endmacro %}
