{% import 'validations/checks.jinja' as validation with context -%}
{% set checks = {
    'ltv_one_row_per_customer': 'one row for every customer of int_customers, none besides',
    'ltv_covers_existing_customers': 'exactly the customers of core.dim_customer that exist at as_of_date',
    'ltv_lifetime_value_reconciles': 'lifetime_value is, to the cent, the sum in core.fct_transactions, approved',
    'ltv_total_transactions_reconciles': 'total_transactions is the number in core.fct_transactions, approved',
    'ltv_transaction_dates_reconcile': 'first and last date are those of the fact, customer_age_days the days between',
    'ltv_not_negative': 'no amount, count or number of days below 0 or missing',
    'ltv_avg_spend_per_day_recomputes': 'avg_spend_per_day is lifetime_value / customer_age_days, NULL for 0 days',
    'ltv_segment_agrees': 'customer_segment is that of customer_segments',
} -%}

with mart as (

    select * from {{ run_schema }}.metric_customer_ltv

),

segments as (

    select * from {{ run_schema }}.customer_segments

),

active as (

    select
        customer_id,
        sum(transaction_amount) as lifetime_value,
        count(*) as total_transactions,
        min(transaction_date) as first_transaction_date,
        max(transaction_date) as last_transaction_date
    from core.fct_transactions
    where
        status = 'approved'
        and transaction_date <= {{ validation.as_of }}
    group by customer_id

),

{{ validation.presence() }},

{{ validation.drift_of_measures() }},

faults as (

    select
        presence.customer_id,
        presence.in_mart <> presence.in_customers or presence.in_mart > 1 as ltv_one_row_per_customer,
        (presence.in_mart > 0) <> (presence.in_existing > 0) as ltv_covers_existing_customers,
        coalesce(mart.customer_id, active.customer_id) is not null
        and mart.lifetime_value is distinct from coalesce(active.lifetime_value, 0) as ltv_lifetime_value_reconciles,
        coalesce(mart.customer_id, active.customer_id) is not null
        and mart.total_transactions is distinct from coalesce(active.total_transactions, 0)
            as ltv_total_transactions_reconciles,
        mart.customer_id is not null
        and (
            mart.first_transaction_date is distinct from active.first_transaction_date
            or mart.last_transaction_date is distinct from active.last_transaction_date
            or mart.customer_age_days
            is distinct from coalesce(datediff('day', active.first_transaction_date, active.last_transaction_date), 0)
        ) as ltv_transaction_dates_reconcile,
        mart.customer_id is not null
        and not coalesce(
            mart.lifetime_value >= 0 and mart.total_transactions >= 0 and mart.customer_age_days >= 0, false
        ) as ltv_not_negative,
        mart.customer_id is not null
        and {{ validation.differs(
            'mart.avg_spend_per_day', validation.ratio('mart.lifetime_value', 'mart.customer_age_days')
        ) }} as ltv_avg_spend_per_day_recomputes,
        mart.customer_id is not null
        and mart.customer_segment is distinct from segments.customer_segment as ltv_segment_agrees
    from presence
    left join mart on presence.customer_id = mart.customer_id
    left join active on presence.customer_id = active.customer_id
    left join segments on presence.customer_id = segments.customer_id

),

tally as (

    {{ validation.tally('faults', checks) }}

),

final as (

    {{ validation.fault_checks('tally', checks) }}
    union all
    {{ validation.stamp_check('ltv_stamped_with_as_of_date') }}
    {{ validation.drift_checks('ltv') }}

)

{{ validation.results({'faults': ('customer_id', checks)}) }}
