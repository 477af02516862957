{#- On Snowflake every statement of a node carries the tag in QUERY_TAG (JSON: dag, run, task, as_of_date) and the node, so that
    credits can be added up per mart, and runs in a session as var snowflake_session wants it. dbt calls the first two around
    each materialization. -#}

{% macro snowflake__set_query_tag() -%}
    {%- do keep_to_target() -%}
    {%- set tag = fromjson(env_var('QUERY_TAG', ''), {}) -%}
    {%- do tag.update({'node': model.name}) -%}
    {#- A person's default secondary roles, or a service user's by mistake, would add what other roles may. -#}
    {%- do run_query('use secondary roles none') -%}
    {%- do alter_session(tojson(tag)) -%}
{%- endmacro %}

{% macro snowflake__unset_query_tag(original_query_tag) -%}
    {%- do alter_session(env_var('QUERY_TAG', '')) -%}
{%- endmacro %}

{% macro alter_session(query_tag) -%}
    {%- set parameters = ["query_tag = '" ~ (query_tag | replace("\\", "\\\\") | replace("'", "''")) ~ "'"] -%}
    {%- for name, value in var('snowflake_session').items() -%}
        {%- do parameters.append(name ~ ' = ' ~ ("'" ~ value ~ "'" if value is string else value | lower)) -%}
    {%- endfor -%}
    {%- do run_query('alter session set ' ~ parameters | join(', ')) -%}
{%- endmacro %}
