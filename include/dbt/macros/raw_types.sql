{#- What the columns of the tables of raw are in this warehouse: an ingestion may deliver dates in another type than sources.yml says,
    and a table may lack what is optional. Asked of the warehouse when a model is compiled. -#}

{% macro raw_types(table) -%}
    {#- Types by name, in lower case; none while dbt parses, and in a unit test, where the graph has no sources. -#}
    {%- set types = {} -%}
    {%- set raw = graph.sources['source.customer_analytics.raw.' ~ table] if execute and graph.sources -%}
    {%- if raw -%}
        {%- set relation = api.Relation.create(database=raw.database, schema=raw.schema, identifier=raw.identifier) -%}
        {%- for column in adapter.get_columns_in_relation(relation) -%}
            {%- do types.update({column.name | lower: column.dtype}) -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(types) }}
{%- endmacro %}

{% macro transaction_date_type() -%}
    {{ return(raw_types('transactions').get('transaction_date', 'date')) }}
{%- endmacro %}

{% macro has_source_row() -%}
    {{ return('source_row' in raw_types('transactions')) }}
{%- endmacro %}
