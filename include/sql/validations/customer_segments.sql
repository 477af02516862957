{% import 'validations/checks.jinja' as validation with context -%}
{% set checks = {
    'segments_one_row_per_customer': 'one row for every customer of int_customers, none besides',
    'segments_covers_existing_customers': 'exactly the customers of core.dim_customer that exist at as_of_date',
    'segments_known': 'one of the five segments, NULL exactly before the first approved transaction',
    'segments_rules_recompute': 'customer_segment follows from the other columns of its row',
    'segments_percentages_in_range': 'travel and necessities between 0 and 100, together at most 100',
    'segments_category_shares_recompute': 'travel and necessities_spend_pct follow from int_customer_transactions',
    'segments_spend_change_recomputes': 'spend_change_pct and avg_monthly_spend follow from the two 90-day windows',
    'segments_tenure_recomputes': 'tenure_months are the calendar months from the first transaction to as_of_date',
} -%}

with mart as (

    select * from {{ run_schema }}.customer_segments

),

active as (

    select * from {{ run_schema }}.int_customer_transactions

),

-- What all customers together spent: the fact is read once, without a group per customer.
fact_spend as (

    select
        coalesce(
            sum(
                case
                    when transactions.transaction_date > {{ validation.as_of }} - 90
                        then transactions.transaction_amount
                end
            ), 0
        ) as last_90_days,
        coalesce(
            sum(
                case
                    when
                        transactions.transaction_date > {{ validation.as_of }} - 180
                        and transactions.transaction_date <= {{ validation.as_of }} - 90
                        then transactions.transaction_amount
                end
            ), 0
        ) as prior_90_days,
        coalesce(
            sum(case when categories.category_group = 'travel' then transactions.transaction_amount end), 0
        ) as travel,
        coalesce(
            sum(case when categories.category_group = 'necessities' then transactions.transaction_amount end), 0
        ) as necessities
    from core.fct_transactions as transactions
    left join core.dim_merchant_category as categories on transactions.merchant_category = categories.merchant_category
    where
        transactions.status = 'approved'
        and transactions.transaction_date <= {{ validation.as_of }}

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
                mart.customer_segment in (
                    'High-Value Travelers', 'Declining', 'New & Growing', 'Budget-Conscious', 'Stable Mid-Spenders'
                ),
                false
            )
        end as segments_known,
        mart.customer_segment is distinct from case
            when mart.tenure_months is null then null
            when mart.avg_monthly_spend >= 5000 and mart.travel_spend_pct >= 25 then 'High-Value Travelers'
            when mart.spend_change_pct <= -30 and mart.spend_prior_90_days >= 2000 then 'Declining'
            when
                mart.tenure_months <= 6
                and (mart.spend_change_pct >= 50 or (mart.spend_prior_90_days = 0 and mart.spend_last_90_days > 0))
                then 'New & Growing'
            when mart.avg_monthly_spend < 1500 and mart.necessities_spend_pct >= 60 then 'Budget-Conscious'
            else 'Stable Mid-Spenders'
        end as segments_rules_recompute,
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
            or {{ validation.differs('mart.avg_monthly_spend', validation.ratio('mart.spend_last_90_days', '3')) }}
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
        fact_spend.last_90_days || ' and ' || fact_spend.prior_90_days || ', approved in core.fct_transactions'
            as expected,
        mart_spend.last_90_days = fact_spend.last_90_days
        and mart_spend.prior_90_days = fact_spend.prior_90_days as passed
    from mart_spend
    cross join fact_spend
    union all
    select
        'segments_category_spend_reconciles' as check_name,
        'error' as severity,
        run_spend.travel || ' on travel, ' || run_spend.necessities || ' on necessities' as observed,
        fact_spend.travel || ' and ' || fact_spend.necessities || ', approved in core.fct_transactions' as expected,
        run_spend.travel = fact_spend.travel and run_spend.necessities = fact_spend.necessities as passed
    from run_spend
    cross join fact_spend
    union all
    {{ validation.stamp_check('segments_stamped_with_as_of_date', ('as_of_date', 'segment_assigned_date')) }}

)

select * from final
