{{
    config(
        schema=run_schema('marts'),
        materialized='incremental',
        unique_key='as_of_date',
        incremental_strategy='replace_date',
        on_schema_change='fail',
        full_refresh=false,
        transient=env_var('RUN_SCHEMA', '') != ''
    )
}}

with profile as (

    select * from {{ ref('customer_360_profile') }}

),

final as (

    -- No names, no e-mail, no address: a date that is kept for years needs none.
    select
        as_of_date,
        customer_id,
        customer_key,
        card_type,
        credit_limit,
        customer_segment,
        tenure_months,
        lifetime_value,
        total_transactions,
        customer_age_days,
        avg_spend_per_day,
        avg_transaction_value,
        transaction_value_stddev,
        median_transaction_value,
        spending_consistency,
        spend_last_90_days,
        spend_prior_90_days,
        spend_change_pct,
        avg_monthly_spend,
        days_since_last_transaction,
        recency_status,
        travel_spend_pct,
        necessities_spend_pct,
        spending_profile,
        eligible_for_retention_campaign,
        eligible_for_onboarding_campaign,
        eligible_for_premium_campaign
    from profile

)

select * from final
