{% macro get_incremental_replace_months_sql(arguments) -%}
    {#- The touched months of customers leave fct_customer_months, and what the fact has of them now comes in. -#}
    {%- set target, touched = arguments.target_relation, ref('touched_customer_months') -%}
    {%- set days = touched_months(touched) -%}
    {%- if days == 'nothing' -%}
        select 'no month was touched' as outcome
    {%- elif days == 'all' -%}
        {{ replace_rows(arguments, 'true') }}
    {%- else -%}
        {%- set leaves -%}
            {{ days | replace('transaction_date', 'month') }}
            and exists (
                select 1
                from {{ touched }} as touched
                where touched.customer_id = {{ target }}.customer_id and touched.month = {{ target }}.month
            )
        {%- endset -%}
        {{ replace_rows(arguments, leaves) }}
    {%- endif -%}
{%- endmacro %}
