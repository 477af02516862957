{% macro loading_rules() -%}
    {#- What, beside the raw rows and the seed, decides what the fact and its months hold: another text when one of it changes.
        The graph is empty while dbt parses. -#}
    {%- if execute -%}
        {%- set rows = graph.nodes['model.customer_analytics.stg_transaction_rows'] -%}
        {%- set months = graph.nodes['model.customer_analytics.fct_customer_months'] -%}
        {{ return(local_md5(
            rows.checksum.checksum ~ months.checksum.checksum ~ customer_month_measures() ~ latest_ingested('versions')
            ~ normalised('value') ~ amount_of('value') ~ number_pattern() ~ date_of_text('value') ~ in_business_zone('value')
            ~ var('calendar_first_day') ~ var('calendar_last_day') ~ var('largest_transaction_amount')
        )) }}
    {%- endif -%}
    {{ return('') }}
{%- endmacro %}
