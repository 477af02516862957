{#- The other marts are held against core.fct_transactions; here they are held against each other, without the fact. -#}
{% import 'validations/checks.jinja' as validation with context -%}
{% set lowest_email_pct = 95 -%}
{% set shared_columns = {
    'customers': [
        'customer_key', 'first_name', 'last_name', 'email', 'age', 'state', 'city', 'employment_status', 'card_type',
        'credit_limit', 'account_open_date', 'marketing_opt_in', 'ads_opt_in', 'account_closed_date', 'deceased_date',
    ],
    'ltv': [
        'lifetime_value', 'total_transactions', 'customer_age_days', 'avg_spend_per_day', 'first_transaction_date',
        'last_transaction_date', 'customer_segment',
    ],
    'atv': [
        'avg_transaction_value', 'transaction_value_stddev', 'min_transaction_value', 'max_transaction_value',
        'median_transaction_value', 'spending_consistency', 'customer_segment',
    ],
    'segments': [
        'customer_segment', 'segment_assigned_date', 'tenure_months', 'spend_last_90_days', 'spend_prior_90_days',
        'spend_change_pct', 'avg_monthly_spend', 'travel_spend_pct', 'necessities_spend_pct',
    ],
} -%}
{% set checks = {
    'profile_one_row_per_customer': 'one row for every customer of int_customers, none besides',
    'profile_covers_existing_customers': 'exactly the customers of core.dim_customer that exist at as_of_date',
    'profile_agrees_with_customers': 'names, account and card are those of int_customers',
    'profile_agrees_with_ltv': 'every shared column equals metric_customer_ltv',
    'profile_agrees_with_atv': 'every shared column equals metric_avg_transaction_value',
    'profile_average_recomputes': 'avg_transaction_value is lifetime_value / total_transactions',
    'profile_agrees_with_segments': 'every shared column equals customer_segments',
    'profile_agrees_with_mom': 'the months add up to lifetime_value, or to less with spend in the month in progress',
    'profile_key_in_dim_customer': 'customer_key is a version of the same customer in core.dim_customer',
    'profile_account_age_recomputes': 'account_age_days are the days from account_open_date to as_of_date',
    'profile_days_since_recomputes': 'days_since_last_transaction are the days from last_transaction_date to as_of_date',
    'profile_recency_in_bounds': 'the last transaction of Active, Recent and At Risk is at most '
        ~ vars.recency_active_days ~ ', ' ~ vars.recency_recent_days ~ ' and ' ~ vars.recency_at_risk_days
        ~ ' days back and further than the status before, of Inactive further still or missing',
    'profile_days_since_not_negative': 'no transaction after as_of_date',
    'profile_spending_profile_in_bounds': 'Travel-Focused exactly from ' ~ vars.travel_focused_pct
        ~ ' % travel on, Necessity-Focused of the others exactly from ' ~ vars.necessity_focused_pct ~ ' % necessities on',
    'profile_campaign_flags_match_segment': 'the flag of its segment in customer_segments is set, and no other',
} -%}
{#- By the day of the last transaction, where the model goes by days_since_last_transaction. -#}
{% set active_from = validation.as_of ~ ' - ' ~ vars.recency_active_days -%}
{% set recent_from = validation.as_of ~ ' - ' ~ vars.recency_recent_days -%}
{% set at_risk_from = validation.as_of ~ ' - ' ~ vars.recency_at_risk_days -%}
{% set recency_bounds = {
    'Active (30 days)': 'mart.last_transaction_date >= ' ~ active_from,
    'Recent (60 days)': 'mart.last_transaction_date < ' ~ active_from ~ ' and mart.last_transaction_date >= ' ~ recent_from,
    'At Risk (90 days)': 'mart.last_transaction_date < ' ~ recent_from
        ~ ' and mart.last_transaction_date >= ' ~ at_risk_from,
    'Inactive (90+ days)': 'coalesce(mart.last_transaction_date < ' ~ at_risk_from ~ ', true)',
} -%}
{% set travel_focused = 'mart.travel_spend_pct >= ' ~ vars.travel_focused_pct -%}
{% set necessity_focused = 'mart.necessities_spend_pct >= ' ~ vars.necessity_focused_pct -%}
{% set spending_profile_bounds = {
    'Travel-Focused': travel_focused,
    'Necessity-Focused': necessity_focused ~ ' and not ' ~ travel_focused,
    'Balanced': 'not (' ~ travel_focused ~ ' or ' ~ necessity_focused ~ ')',
} -%}
{% set segment_by_campaign = {
    'retention': 'Declining', 'onboarding': 'New & Growing', 'premium': 'High-Value Travelers',
} -%}

with mart as (

    select * from {{ run_schema }}.customer_360_profile

),

customers as (

    select * from {{ run_schema }}.int_customers

),

segments as (

    select * from {{ run_schema }}.customer_segments

),

ltv as (

    select * from {{ run_schema }}.metric_customer_ltv

),

atv as (

    select * from {{ run_schema }}.metric_avg_transaction_value

),

mom as (

    select
        customer_id,
        sum(monthly_spend) as monthly_spend
    from {{ run_schema }}.metric_mom_spend_change
    group by customer_id

),

active as (

    select customer_id
    from ltv
    where total_transactions > 0

),

{{ validation.presence() }},

{{ validation.drift_of_measures() }},

faults as (

    select
        presence.customer_id,
        presence.in_mart <> presence.in_customers or presence.in_mart > 1 as profile_one_row_per_customer,
        (presence.in_mart > 0) <> (presence.in_existing > 0) as profile_covers_existing_customers,
        {%- for other, columns in shared_columns.items() %}
        mart.customer_id is not null
        and (
            {{ other }}.customer_id is null
            {%- for column in columns %}
            or mart.{{ column }} is distinct from {{ other }}.{{ column }}
            {%- endfor %}
            {%- if other == 'customers' %}
            or mart.full_name is distinct from
            nullif(trim(coalesce(customers.first_name, '') || ' ' || coalesce(customers.last_name, '')), '')
            {%- endif %}
        ) as profile_agrees_with_{{ other }},
        {%- endfor %}
        mart.customer_id is not null
        and {{ validation.differs(
            'mart.avg_transaction_value', validation.ratio('mart.lifetime_value', 'mart.total_transactions')
        ) }} as profile_average_recomputes,
        mart.customer_id is not null
        and not coalesce(
            case
                when mart.last_transaction_date >= {{ validation.complete_before }}
                    then coalesce(mom.monthly_spend, 0) < mart.lifetime_value
                else coalesce(mom.monthly_spend, 0) = mart.lifetime_value
            end,
            false
        ) as profile_agrees_with_mom,
        mart.customer_id is not null
        and dim_customer.customer_key is null as profile_key_in_dim_customer,
        mart.account_age_days is distinct from datediff('day', mart.account_open_date, {{ validation.as_of }})
            as profile_account_age_recomputes,
        mart.days_since_last_transaction
        is distinct from datediff('day', mart.last_transaction_date, {{ validation.as_of }})
            as profile_days_since_recomputes,
        mart.customer_id is not null
        and {{ validation.out_of_bounds('mart.recency_status', recency_bounds) }} as profile_recency_in_bounds,
        coalesce(mart.days_since_last_transaction < 0, false) as profile_days_since_not_negative,
        mart.customer_id is not null
        and {{ validation.out_of_bounds('mart.spending_profile', spending_profile_bounds) }}
            as profile_spending_profile_in_bounds,
        mart.customer_id is not null
        and (
            {%- for campaign, segment in segment_by_campaign.items() %}
            {{ "or " if not loop.first }}mart.eligible_for_{{ campaign }}_campaign
            is distinct from (coalesce(segments.customer_segment, '') = '{{ segment }}')
            {%- endfor %}
        ) as profile_campaign_flags_match_segment
    from presence
    left join mart on presence.customer_id = mart.customer_id
    left join customers on presence.customer_id = customers.customer_id
    left join ltv on presence.customer_id = ltv.customer_id
    left join atv on presence.customer_id = atv.customer_id
    left join segments on presence.customer_id = segments.customer_id
    left join mom on presence.customer_id = mom.customer_id
    left join core.dim_customer as dim_customer
        on mart.customer_key = dim_customer.customer_key and mart.customer_id = dim_customer.customer_id

),

tally as (

    {{ validation.tally('faults', checks) }}

),

emails as (

    select {{ validation.ratio("sum(case when email like '%@%' then 1 else 0 end)", 'count(*)', 100) }} as email_pct
    from mart

),

final as (

    {{ validation.fault_checks('tally', checks) }}
    union all
    {{ validation.stamp_check('profile_stamped_with_as_of_date', ('as_of_date', 'profile_updated_date')) }}
    union all
    select
        'profile_emails_present' as check_name,
        'warn' as severity,
        coalesce(cast(cast(email_pct as decimal(18, 2)) as varchar), 'no') || ' % of customers have an email address'
            as observed,
        'at least {{ lowest_email_pct }} %' as expected,
        coalesce(email_pct >= {{ lowest_email_pct }}, false) as passed
    from emails
    {{ validation.drift_checks('profile') }}

)

{{ validation.results({'faults': ('customer_id', checks)}) }}
