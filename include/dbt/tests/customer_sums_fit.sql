-- A customer whose approved transactions add up to more than the columns of the marts hold: a change against a month
-- of one cent, in percent, has four digits more than the sum, and 14 at most. With amounts up to a million it takes
-- ten thousand of the largest, so the fact is only read where somebody has raised the limit. What is found is said as
-- an error, which the log shows: of rows that a test returns dbt says only how many they are.
{% set largest_sum = 10000000000 %}
{% set limit_raised = var('largest_transaction_amount') | float > 1000000 %}

{% set customers -%}
    select
        customer_id,
        count(*) as row_count,
        cast(sum(transaction_amount) as decimal(38, 2)) as amount
    from {{ ref('fct_transactions') }}
    where
        status = 'approved'
        and {{ '1 = 1' if limit_raised else '1 = 0' }}
    group by customer_id
    having sum(transaction_amount) >= {{ largest_sum }}
{%- endset %}

{% if execute and limit_raised and flags.WHICH in ('build', 'test') %}
{% set found = run_query(customers ~ ' order by amount desc, customer_id limit 5') %}
{% set said = [] %}
{% for customer_id, row_count, amount in found.rows %}
{% set largest = run_query(
    "select transaction_id, transaction_amount from " ~ ref('fct_transactions') ~ " where status = 'approved' and customer_id = '"
    ~ customer_id | replace("'", "''") ~ "' order by transaction_amount desc, transaction_id limit 5"
) %}
{% set rows = [] %}
{% for transaction_id, transaction_amount in largest.rows %}
{% do rows.append(transaction_id ~ ' (' ~ transaction_amount ~ ')') %}
{% endfor %}
{% do said.append(
    'customer ' ~ customer_id ~ ': ' ~ row_count ~ ' approved transactions of ' ~ amount ~ ' dollars, the largest '
    ~ rows | join(', ') ~ (' and more' if row_count > 5 else '')
) %}
{% endfor %}
{% if said %}
{{ exceptions.raise_compiler_error(
    'The sums of a customer do not fit the columns of the marts, which hold less than ' ~ largest_sum ~ ' dollars. '
    ~ said | join('; ') ~ '. Have these transactions corrected at the source, or lower largest_transaction_amount in '
    ~ 'include/dbt/dbt_project.yml, now ' ~ var('largest_transaction_amount') ~ ', so that they are rejected; then start a new run.'
) }}
{% endif %}
{% endif %}

{{ customers }}
