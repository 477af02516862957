{#- What fct_customer_months says about a customer's approved transactions of a month that is over, and
    int_customer_transactions about those of the month in progress. -#}

{% macro customer_month_measures() -%}
    {#- Of rows with transaction_date, transaction_amount, is_travel and is_necessity, grouped by customer. -#}
    count(*) as transaction_count,
        cast(sum(transaction_amount) as decimal(38, 2)) as spend,
        cast(sum({{ cents('transaction_amount') }} * {{ cents('transaction_amount') }}) as decimal(38, 0)) as squared_cents,
        min(transaction_amount) as min_transaction_value,
        max(transaction_amount) as max_transaction_value,
        min(transaction_date) as first_transaction_date,
        max(transaction_date) as last_transaction_date,
        cast(sum(case when is_travel then transaction_amount else 0 end) as decimal(38, 2)) as travel_spend,
        cast(sum(case when is_necessity then transaction_amount else 0 end) as decimal(38, 2)) as necessities_spend
{%- endmacro %}

{% macro customer_month_columns() -%}
    customer_id,
        transaction_count,
        spend,
        squared_cents,
        min_transaction_value,
        max_transaction_value,
        first_transaction_date,
        last_transaction_date,
        travel_spend,
        necessities_spend
{%- endmacro %}
