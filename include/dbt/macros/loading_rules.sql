{% macro loading_rules() -%}
    {#- What, beside the raw rows and the seed, decides what the fact and its months hold: another text when one of it changes.
        The graph is empty while dbt parses. -#}
    {%- if execute -%}
        {%- set rows = graph.nodes['model.customer_analytics.stg_transaction_rows'] -%}
        {%- set months = graph.nodes['model.customer_analytics.fct_customer_months'] -%}
        {{ return(local_md5(
            rows.checksum.checksum ~ months.checksum.checksum ~ customer_month_measures() ~ latest_ingested('versions') ~ try_cast_as('value', 'date')
            ~ var('calendar_first_day') ~ var('calendar_last_day')
        )) }}
    {%- endif -%}
    {{ return('') }}
{%- endmacro %}
