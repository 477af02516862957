{% import 'validations/checks.jinja' as validation with context -%}
{#- The fact is added up by customer and by category, not by both: what went to a wrong customer or a wrong category shows
    in one of them. -#}
{% set window_begins_after = validation.as_of ~ ' - ' ~ vars.spend_window_days -%}
{% set row_checks = {
    'category_spend_one_row_per_category': 'one row for every customer and category, none besides',
    'category_spend_group_agrees': 'category_group is that of core.dim_merchant_category',
    'category_spend_positive': 'transactions and spend are above 0',
    'category_spend_stamped_with_as_of_date': 'every row has as_of_date ' ~ as_of_date,
} -%}
{% set customer_checks = {
    'category_spend_customers_reconcile': 'transactions and spend of each customer are those of core.fct_transactions, '
        ~ 'approved, of the last ' ~ vars.spend_window_days ~ ' days',
} -%}
{% set category_checks = {
    'category_spend_categories_reconcile': 'transactions and spend of each category are the same',
} -%}

with mart as (

    select * from {{ run_schema }}.customer_category_spend

),

approved as (

    select
        customer_id,
        merchant_category,
        transaction_amount
    from core.fct_transactions
    where
        status = 'approved'
        and transaction_date <= {{ validation.as_of }}
        and transaction_date > {{ window_begins_after }}

),

counted as (

    select
        mart.*,
        count(*) over (partition by mart.customer_id, mart.merchant_category) as rows_of_key
    from mart

),

row_faults as (

    select
        counted.customer_id || ' ' || counted.merchant_category as row_key,
        counted.rows_of_key > 1 as category_spend_one_row_per_category,
        counted.category_group is distinct from categories.category_group as category_spend_group_agrees,
        not coalesce(counted.transactions > 0 and counted.spend > 0, false) as category_spend_positive,
        counted.as_of_date is distinct from {{ validation.as_of }} as category_spend_stamped_with_as_of_date
    from counted
    left join core.dim_merchant_category as categories
        on counted.merchant_category = categories.merchant_category

),

{% for key, checks in (('customer_id', customer_checks), ('merchant_category', category_checks)) -%}
{% set name = key.split('_')[0] if key == 'customer_id' else 'category' -%}
{{ name }}_sums as (

    select
        {{ key }},
        sum(in_mart * transactions) as transactions_of_mart,
        sum(in_mart * spend) as spend_of_mart,
        sum((1 - in_mart) * transactions) as transactions_of_fact,
        sum((1 - in_mart) * spend) as spend_of_fact
    from (
        select
            {{ key }},
            1 as in_mart,
            transactions,
            spend
        from mart
        union all
        select
            {{ key }},
            0 as in_mart,
            1 as transactions,
            transaction_amount as spend
        from approved
    ) as both_sides
    group by {{ key }}

),

{{ name }}_faults as (

    select
        {{ key }},
        transactions_of_mart <> transactions_of_fact or spend_of_mart <> spend_of_fact as {{ checks | first }}
    from {{ name }}_sums

),

{{ name }}_tally as (

    {{ validation.tally(name ~ '_faults', checks, example=key) }}

),

{% endfor -%}
row_tally as (

    {{ validation.tally('row_faults', row_checks, example='row_key') }}

),

{{ validation.drift_of_measures() }},

final as (

    {{ validation.fault_checks('row_tally', row_checks, unit='rows') }}
    union all
    {{ validation.fault_checks('customer_tally', customer_checks) }}
    union all
    {{ validation.fault_checks('category_tally', category_checks, unit='categories') }}
    {{ validation.drift_checks('category_spend') }}

)

{{ validation.results({
    'row_faults': ('row_key', row_checks),
    'customer_faults': ('customer_id', customer_checks),
    'category_faults': ('merchant_category', category_checks),
}) }}
