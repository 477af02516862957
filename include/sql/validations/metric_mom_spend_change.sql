{% import 'validations/checks.jinja' as validation with context -%}
{% set row_checks = {
    'mom_one_row_per_customer_month': 'one row per customer and month',
    'mom_no_month_in_progress': 'only months that are over on ' ~ as_of_date,
    'mom_month_number_counts_from_one': 'month_number counts the months of a customer from 1',
    'mom_prior_month_spend_is_previous_row': 'prior_month_spend is that of the month before, NULL in the first',
    'mom_change_pct_recomputes': 'mom_change_pct is (monthly - prior) / prior * 100, NULL when prior is NULL or 0',
    'mom_first_month_labelled': 'First Month exactly where the customer has no month before',
    'mom_trend_after_no_spend': 'after a month without spend High Growth with spend, Flat without',
    'mom_trend_in_bounds': 'the trend has the sign of mom_change_pct, High Growth exactly above '
        ~ vars.mom_high_growth_pct ~ ', High Decline exactly below ' ~ vars.mom_high_decline_pct,
} -%}
{% set trend_after_no_spend = {'High Growth': 'monthly_spend > 0', 'Flat': 'monthly_spend = 0'} -%}
{% set trend_bounds = {
    'High Growth': 'mom_change_pct > ' ~ vars.mom_high_growth_pct,
    'Growth': 'mom_change_pct > 0 and mom_change_pct <= ' ~ vars.mom_high_growth_pct,
    'Flat': 'mom_change_pct = 0',
    'Decline': 'mom_change_pct < 0 and mom_change_pct >= ' ~ vars.mom_high_decline_pct,
    'High Decline': 'mom_change_pct < ' ~ vars.mom_high_decline_pct,
} -%}
{% set customer_checks = {
    'mom_months_dense': 'every month from the first transaction to the last complete month, without a gap',
    'mom_customer_totals_reconcile': 'the months of a customer add up, to the cent, to core.fct_transactions, approved',
} -%}
{% set month_checks = {
    'mom_month_totals_reconcile': 'the customers of a month add up, to the cent, to core.fct_transactions, approved',
} -%}

with mart as (

    select * from {{ run_schema }}.metric_mom_spend_change

),

fact_customers as (

    select
        customer_id,
        cast(date_trunc('month', min(transaction_date)) as date) as first_month,
        sum(transaction_amount) as spend
    from core.fct_transactions
    where
        status = 'approved'
        and transaction_date < {{ validation.complete_before }}
    group by customer_id

),

-- By day first: days are few and stored, a month would be computed for each transaction.
fact_days as (

    select
        transaction_date,
        sum(transaction_amount) as spend
    from core.fct_transactions
    where
        status = 'approved'
        and transaction_date < {{ validation.complete_before }}
    group by transaction_date

),

fact_months as (

    select
        cast(date_trunc('month', transaction_date) as date) as month,
        sum(spend) as spend
    from fact_days
    group by cast(date_trunc('month', transaction_date) as date)

),

ordered as (

    select
        *,
        row_number() over (partition by customer_id order by month, month_number) as month_position,
        lag(month) over (partition by customer_id order by month, month_number) as previous_month,
        lag(monthly_spend) over (partition by customer_id order by month, month_number) as previous_spend
    from mart

),

row_faults as (

    select
        customer_id,
        month,
        coalesce(month = previous_month, false) as mom_one_row_per_customer_month,
        month >= {{ validation.complete_before }} as mom_no_month_in_progress,
        month_number is distinct from month_position as mom_month_number_counts_from_one,
        prior_month_spend is distinct from previous_spend as mom_prior_month_spend_is_previous_row,
        {{ validation.differs(
            'mom_change_pct', validation.ratio('monthly_spend - prior_month_spend', 'prior_month_spend', 100)
        ) }} as mom_change_pct_recomputes,
        (coalesce(mom_trend_category, '') = 'First Month') <> (previous_month is null) as mom_first_month_labelled,
        coalesce(prior_month_spend = 0, false)
        and {{ validation.out_of_bounds('mom_trend_category', trend_after_no_spend) }} as mom_trend_after_no_spend,
        mom_change_pct is not null
        and {{ validation.out_of_bounds('mom_trend_category', trend_bounds) }} as mom_trend_in_bounds
    from ordered

),

mart_customers as (

    select
        customer_id,
        min(month) as first_month,
        max(month) as last_month,
        sum(case when datediff('month', previous_month, month) > 1 then 1 else 0 end) as gaps,
        sum(monthly_spend) as spend
    from ordered
    group by customer_id

),

customer_faults as (

    select
        coalesce(mart_customers.customer_id, fact_customers.customer_id) as customer_id,
        mart_customers.first_month is distinct from fact_customers.first_month
        or coalesce(datediff('month', mart_customers.last_month, {{ validation.complete_before }}) > 1, true)
        or mart_customers.gaps > 0 as mom_months_dense,
        mart_customers.spend is distinct from fact_customers.spend as mom_customer_totals_reconcile
    from mart_customers
    full outer join fact_customers on mart_customers.customer_id = fact_customers.customer_id

),

mart_months as (

    select
        month,
        sum(monthly_spend) as spend
    from mart
    group by month

),

month_faults as (

    select
        coalesce(mart_months.month, fact_months.month) as month,
        coalesce(mart_months.spend, 0) <> coalesce(fact_months.spend, 0) as mom_month_totals_reconcile
    from mart_months
    full outer join fact_months on mart_months.month = fact_months.month

),

row_tally as (

    {{ validation.tally('row_faults', row_checks, example="customer_id || ' ' || month") }}

),

month_tally as (

    {{ validation.tally('month_faults', month_checks, example='month') }}

),

customer_tally as (

    {{ validation.tally('customer_faults', customer_checks) }}

),

expected_customers as (

    select count(*) as row_count from fact_customers

),

stamped as (

    select
        count(*) as row_count,
        coalesce(sum(case when as_of_date = {{ validation.as_of }} then 1 else 0 end), 0) as stamped_rows
    from mart

),

final as (

    {{ validation.fault_checks('row_tally', row_checks, unit='rows') }}
    union all
    {{ validation.fault_checks('customer_tally', customer_checks) }}
    union all
    {{ validation.fault_checks('month_tally', month_checks, unit='months') }}
    union all
    -- Before the first complete month with a transaction the mart is rightly empty.
    select
        'mom_stamped_with_as_of_date' as check_name,
        'error' as severity,
        stamped.stamped_rows || ' of ' || stamped.row_count || ' rows' as observed,
        'every row has as_of_date {{ as_of_date }}, and there are rows for '
        || expected_customers.row_count || ' customers' as expected,
        stamped.stamped_rows = stamped.row_count
        and (stamped.row_count > 0 or expected_customers.row_count = 0) as passed
    from stamped
    cross join expected_customers

)

{{ validation.results({
    'row_faults': ("customer_id || ' ' || month", row_checks),
    'customer_faults': ('customer_id', customer_checks),
    'month_faults': ('cast(month as varchar)', month_checks),
}) }}
