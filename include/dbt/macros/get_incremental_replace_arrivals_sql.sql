{% macro get_incremental_replace_arrivals_sql(arguments) -%}
    {#- What arrived on the days to load leaves rejected_transactions, and what of it cannot be used comes in. -#}
    {%- set target = arguments.target_relation -%}
    {%- set arrivals = arrivals_to_load(
        ref('stg_transaction_days'), loaded_days(ref('fct_transactions')), target, ref('customers_snapshot')
    ) -%}
    {%- if arrivals == 'nothing' -%}
        select 'nothing to load' as outcome
    {%- else -%}
        {{ replace_rows(arguments, 'true' if arrivals == 'all' else arrivals) }}
    {%- endif -%}
{%- endmacro %}
