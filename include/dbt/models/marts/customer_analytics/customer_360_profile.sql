{{ config(schema=run_schema('marts')) }}

with customers as (

    select * from {{ ref('int_customers') }}

),

segments as (

    select * from {{ ref('customer_segments') }}

),

ltv as (

    select * from {{ ref('metric_customer_ltv') }}

),

atv as (

    select * from {{ ref('metric_avg_transaction_value') }}

),

joined as (

    select
        customers.*,
        segments.customer_segment,
        segments.segment_assigned_date,
        segments.tenure_months,
        segments.spend_last_90_days,
        segments.spend_prior_90_days,
        segments.spend_change_pct,
        segments.avg_monthly_spend,
        segments.travel_spend_pct,
        segments.necessities_spend_pct,
        ltv.lifetime_value,
        ltv.total_transactions,
        ltv.customer_age_days,
        ltv.avg_spend_per_day,
        ltv.first_transaction_date,
        ltv.last_transaction_date,
        atv.avg_transaction_value,
        atv.transaction_value_stddev,
        atv.min_transaction_value,
        atv.max_transaction_value,
        atv.median_transaction_value,
        atv.spending_consistency,
        cast({{ dbt.datediff('ltv.last_transaction_date', as_of_date(), 'day') }} as integer) as days_since_last_transaction
    from customers
    inner join segments on customers.customer_id = segments.customer_id
    inner join ltv on customers.customer_id = ltv.customer_id
    inner join atv on customers.customer_id = atv.customer_id

),

final as (

    select
        customer_id,
        customer_key,
        nullif(trim(concat(coalesce(first_name, ''), ' ', coalesce(last_name, ''))), '') as full_name,
        first_name,
        last_name,
        email,
        age,
        state,
        city,
        employment_status,
        card_type,
        credit_limit,
        account_open_date,
        cast({{ dbt.datediff('account_open_date', as_of_date(), 'day') }} as integer) as account_age_days,
        marketing_opt_in,
        ads_opt_in,
        account_closed_date,
        deceased_date,
        customer_segment,
        segment_assigned_date,
        tenure_months,
        lifetime_value,
        total_transactions,
        customer_age_days,
        avg_spend_per_day,
        avg_transaction_value,
        transaction_value_stddev,
        min_transaction_value,
        max_transaction_value,
        median_transaction_value,
        spending_consistency,
        spend_last_90_days,
        spend_prior_90_days,
        spend_change_pct,
        avg_monthly_spend,
        first_transaction_date,
        last_transaction_date,
        days_since_last_transaction,
        case
            when days_since_last_transaction <= {{ var('recency_active_days') }} then 'Active (30 days)'
            when days_since_last_transaction <= {{ var('recency_recent_days') }} then 'Recent (60 days)'
            when days_since_last_transaction <= {{ var('recency_at_risk_days') }} then 'At Risk (90 days)'
            else 'Inactive (90+ days)'
        end as recency_status,
        travel_spend_pct,
        necessities_spend_pct,
        case
            when travel_spend_pct >= {{ var('travel_focused_pct') }} then 'Travel-Focused'
            when necessities_spend_pct >= {{ var('necessity_focused_pct') }} then 'Necessity-Focused'
            else 'Balanced'
        end as spending_profile,
        coalesce(customer_segment = 'Declining', false) as eligible_for_retention_campaign,
        coalesce(customer_segment = 'New & Growing', false) as eligible_for_onboarding_campaign,
        coalesce(customer_segment = 'High-Value Travelers', false) as eligible_for_premium_campaign,
        cast(null as decimal(18, 4)) as churn_risk_score,
        cast(null as varchar) as churn_risk_category,
        {{ as_of_date() }} as profile_updated_date,
        {{ as_of_date() }} as as_of_date
    from joined

)

select * from final
