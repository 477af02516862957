{% macro loads_transactions() -%}
    {#- Whether this dbt run loads the fact and what was turned away: one that leaves either out must not say that a day is
        loaded, and one in which either fails does not come to it. -#}
    {{ return(
        'model.customer_analytics.fct_transactions' in selected_resources
        and 'model.customer_analytics.rejected_transactions' in selected_resources
    ) }}
{%- endmacro %}
