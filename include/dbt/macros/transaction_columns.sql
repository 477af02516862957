{% macro transaction_columns() -%}
    {#- The columns of a usable transaction, in the order in which stg_transactions and fct_transactions have them. -#}
    transaction_id,
        customer_id,
        transaction_date,
        transaction_amount,
        merchant_name,
        merchant_category,
        channel,
        status,
        ingested_at
{%- endmacro %}

{% macro competing_columns() -%}
    {#- What latest_ingested reads: beside these columns, what breaks a tie and is not kept. -#}
    {{ transaction_columns() }},
        source_row
{%- endmacro %}
