{% import 'validations/checks.jinja' as validation with context -%}
{% set checks = {
    'segments_one_row_per_customer': 'one row for every customer of int_customers, none besides',
    'segments_covers_existing_customers': 'exactly the customers of core.dim_customer that exist at as_of_date',
    'segments_known': 'one of the five segments, NULL exactly before the first approved transaction',
    'segments_high_value_in_bounds': 'High-Value Travelers exactly with avg_monthly_spend >= '
        ~ vars.high_value_avg_monthly_spend ~ ' and travel_spend_pct >= ' ~ vars.travel_focused_pct,
    'segments_declining_in_bounds': 'Declining exactly with spend_change_pct <= ' ~ vars.declining_spend_change_pct
        ~ ' and spend_prior_90_days >= ' ~ vars.declining_prior_spend ~ ', unless of a segment before',
    'segments_growing_in_bounds': 'New & Growing exactly with tenure_months <= ' ~ vars.new_tenure_months
        ~ ' and spend_change_pct >= ' ~ vars.growing_spend_change_pct ~ ' or spend after none, unless of a segment before',
    'segments_budget_in_bounds': 'Budget-Conscious exactly with avg_monthly_spend < ' ~ vars.budget_avg_monthly_spend
        ~ ' and necessities_spend_pct >= ' ~ vars.necessity_focused_pct ~ ', unless of a segment before',
    'segments_percentages_in_range': 'travel and necessities between 0 and 100, together at most 100',
    'segments_category_shares_recompute': 'travel and necessities_spend_pct follow from int_customer_transactions',
    'segments_spend_change_recomputes': 'spend_change_pct and avg_monthly_spend follow from the spend of the two windows',
    'segments_tenure_recomputes': 'tenure_months are the calendar months from the first transaction to as_of_date',
} -%}
{#- What is true of every customer of a segment, and of nobody in one that comes after it. Stable Mid-Spenders are what is
    left. -#}
{% set segments_in_order = {
    'high_value': {
        'label': 'High-Value Travelers',
        'bounds': 'mart.avg_monthly_spend >= ' ~ vars.high_value_avg_monthly_spend
            ~ ' and mart.travel_spend_pct >= ' ~ vars.travel_focused_pct,
    },
    'declining': {
        'label': 'Declining',
        'bounds': 'mart.spend_change_pct <= ' ~ vars.declining_spend_change_pct
            ~ ' and mart.spend_prior_90_days >= ' ~ vars.declining_prior_spend,
    },
    'growing': {
        'label': 'New & Growing',
        'bounds': 'mart.tenure_months <= ' ~ vars.new_tenure_months
            ~ ' and (mart.spend_change_pct >= ' ~ vars.growing_spend_change_pct
            ~ ' or (mart.spend_change_pct is null and mart.spend_last_90_days > 0))',
    },
    'budget': {
        'label': 'Budget-Conscious',
        'bounds': 'mart.avg_monthly_spend < ' ~ vars.budget_avg_monthly_spend
            ~ ' and mart.necessities_spend_pct >= ' ~ vars.necessity_focused_pct,
    },
    'stable': {'label': 'Stable Mid-Spenders', 'bounds': none},
} -%}
{% set labels = segments_in_order.values() | map(attribute='label') | list -%}

with mart as (

    select * from {{ run_schema }}.customer_segments

),

active as (

    select * from {{ run_schema }}.int_customer_transactions

),

-- What all customers together spent, without a group per customer. The fact is named twice: DuckDB would keep all rows of a
-- CTE that is read twice.
fact_windows as (

    select
        coalesce(
            sum(
                case
                    when transaction_date > {{ validation.as_of }} - {{ vars.spend_window_days }} then transaction_amount
                end
            ), 0
        ) as last_90_days,
        coalesce(
            sum(
                case
                    when transaction_date <= {{ validation.as_of }} - {{ vars.spend_window_days }} then transaction_amount
                end
            ), 0
        ) as prior_90_days
    from core.fct_transactions
    where
        status = 'approved'
        and transaction_date <= {{ validation.as_of }}
        and transaction_date > {{ validation.as_of }} - {{ 2 * vars.spend_window_days }}

),

fact_categories as (

    select
        merchant_category,
        sum(transaction_amount) as spend
    from core.fct_transactions
    where
        status = 'approved'
        and transaction_date <= {{ validation.as_of }}
    group by merchant_category

),

fact_groups as (

    select
        coalesce(sum(case when categories.category_group = 'travel' then fact_categories.spend end), 0) as travel,
        coalesce(sum(case when categories.category_group = 'necessities' then fact_categories.spend end), 0)
            as necessities
    from fact_categories
    left join core.dim_merchant_category as categories on fact_categories.merchant_category = categories.merchant_category

),

mart_spend as (

    select
        coalesce(sum(spend_last_90_days), 0) as last_90_days,
        coalesce(sum(spend_prior_90_days), 0) as prior_90_days
    from mart

),

run_spend as (

    select
        coalesce(sum(travel_spend), 0) as travel,
        coalesce(sum(necessities_spend), 0) as necessities
    from active

),

{{ validation.presence() }},

faults as (

    select
        presence.customer_id,
        presence.in_mart <> presence.in_customers or presence.in_mart > 1 as segments_one_row_per_customer,
        (presence.in_mart > 0) <> (presence.in_existing > 0) as segments_covers_existing_customers,
        mart.customer_id is not null
        and case
            when active.customer_id is null then mart.customer_segment is not null
            else not coalesce(
                mart.customer_segment in ('{{ labels | join("', '") }}'),
                false
            )
        end as segments_known,
        {%- for name, segment in segments_in_order.items() if segment.bounds %}
        coalesce(
            case
                when mart.customer_segment = '{{ segment.label }}' then not coalesce({{ segment.bounds }}, false)
                when mart.customer_segment in ('{{ labels[loop.index:] | join("', '") }}') then {{ segment.bounds }}
            end,
            false
        ) as segments_{{ name }}_in_bounds,
        {%- endfor %}
        mart.customer_id is not null
        and not coalesce(
            mart.travel_spend_pct between 0 and 100
            and mart.necessities_spend_pct between 0 and 100
            and mart.travel_spend_pct + mart.necessities_spend_pct <= 100.0001,
            false
        ) as segments_percentages_in_range,
        mart.customer_id is not null
        and (
            {{ validation.differs(
                'mart.travel_spend_pct',
                'coalesce(' ~ validation.ratio('active.travel_spend', 'active.lifetime_value', 100) ~ ', 0)'
            ) }}
            or {{ validation.differs(
                'mart.necessities_spend_pct',
                'coalesce(' ~ validation.ratio('active.necessities_spend', 'active.lifetime_value', 100) ~ ', 0)'
            ) }}
        ) as segments_category_shares_recompute,
        mart.customer_id is not null
        and (
            {{ validation.differs(
                'mart.spend_change_pct',
                validation.ratio('mart.spend_last_90_days - mart.spend_prior_90_days', 'mart.spend_prior_90_days', 100)
            ) }}
            or {{ validation.differs('mart.avg_monthly_spend', validation.ratio('mart.spend_last_90_days', vars.spend_window_days ~ ' / 30.0')) }}
        ) as segments_spend_change_recomputes,
        mart.customer_id is not null
        and mart.tenure_months is distinct from datediff('month', active.first_transaction_date, {{ validation.as_of }})
            as segments_tenure_recomputes
    from presence
    left join mart on presence.customer_id = mart.customer_id
    left join active on presence.customer_id = active.customer_id

),

tally as (

    {{ validation.tally('faults', checks) }}

),

final as (

    {{ validation.fault_checks('tally', checks) }}
    union all
    select
        'segments_spend_windows_reconcile' as check_name,
        'error' as severity,
        mart_spend.last_90_days || ' in the last 90 days, ' || mart_spend.prior_90_days || ' in the prior 90'
            as observed,
        fact_windows.last_90_days || ' and ' || fact_windows.prior_90_days || ', approved in core.fct_transactions'
            as expected,
        mart_spend.last_90_days = fact_windows.last_90_days
        and mart_spend.prior_90_days = fact_windows.prior_90_days as passed
    from mart_spend
    cross join fact_windows
    union all
    select
        'segments_category_spend_reconciles' as check_name,
        'error' as severity,
        run_spend.travel || ' on travel, ' || run_spend.necessities || ' on necessities' as observed,
        fact_groups.travel || ' and ' || fact_groups.necessities || ', approved in core.fct_transactions' as expected,
        run_spend.travel = fact_groups.travel and run_spend.necessities = fact_groups.necessities as passed
    from run_spend
    cross join fact_groups
    union all
    {{ validation.stamp_check('segments_stamped_with_as_of_date', ('as_of_date', 'segment_assigned_date')) }}

)

{{ validation.results({'faults': ('customer_id', checks)}) }}
