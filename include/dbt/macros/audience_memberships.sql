{% macro has_audience_memberships() -%}
    {#- Whether ops.audience_memberships is in this warehouse: the first night makes it before it builds, a build from a shell may come
        before that. Asked of the warehouse when a model is compiled; true while dbt parses, and in a unit test, where the graph has
        no sources. -#}
    {%- set memberships = graph.sources['source.customer_analytics.ops.audience_memberships'] if execute and graph.sources -%}
    {%- if not memberships -%}
        {{ return(true) }}
    {%- endif -%}
    {{ return(adapter.get_relation(memberships.database, memberships.schema, memberships.identifier) is not none) }}
{%- endmacro %}
