{{ config(schema=run_schema('marts')) }}

with customers as (

    select * from {{ ref('int_customers') }}

),

transactions as (

    select * from {{ ref('int_customer_transactions') }}

),

measured as (

    select
        customers.customer_id,
        transactions.first_transaction_date,
        coalesce(transactions.spend_last_90_days, 0) as spend_last_90_days,
        coalesce(transactions.spend_prior_90_days, 0) as spend_prior_90_days,
        {{ ratio('transactions.spend_last_90_days - transactions.spend_prior_90_days', 'transactions.spend_prior_90_days', 100) }}
            as spend_change_pct,
        coalesce({{ ratio('transactions.spend_last_90_days', var('spend_window_days') ~ ' / 30.0') }}, 0)
            as avg_monthly_spend,
        cast({{ dbt.datediff('transactions.first_transaction_date', as_of_date(), 'month') }} as integer) as tenure_months,
        coalesce({{ ratio('transactions.travel_spend', 'transactions.lifetime_value', 100) }}, 0) as travel_spend_pct,
        coalesce({{ ratio('transactions.necessities_spend', 'transactions.lifetime_value', 100) }}, 0)
            as necessities_spend_pct
    from customers
    left join transactions on customers.customer_id = transactions.customer_id

),

segmented as (

    select
        *,
        case
            when first_transaction_date is null then null
            when
                avg_monthly_spend >= {{ var('high_value_avg_monthly_spend') }}
                and travel_spend_pct >= {{ var('travel_focused_pct') }}
                then 'High-Value Travelers'
            when
                spend_change_pct <= {{ var('declining_spend_change_pct') }}
                and spend_prior_90_days >= {{ var('declining_prior_spend') }}
                then 'Declining'
            when
                tenure_months <= {{ var('new_tenure_months') }}
                and (
                    spend_change_pct >= {{ var('growing_spend_change_pct') }}
                    or (spend_prior_90_days = 0 and spend_last_90_days > 0)
                )
                then 'New & Growing'
            when
                avg_monthly_spend < {{ var('budget_avg_monthly_spend') }}
                and necessities_spend_pct >= {{ var('necessity_focused_pct') }}
                then 'Budget-Conscious'
            else 'Stable Mid-Spenders'
        end as customer_segment
    from measured

),

final as (

    select
        customer_id,
        cast(customer_segment as varchar) as customer_segment,
        {{ as_of_date() }} as segment_assigned_date,
        tenure_months,
        cast(spend_last_90_days as decimal(18, 2)) as spend_last_90_days,
        cast(spend_prior_90_days as decimal(18, 2)) as spend_prior_90_days,
        spend_change_pct,
        cast(avg_monthly_spend as decimal(18, 4)) as avg_monthly_spend,
        cast(travel_spend_pct as decimal(18, 4)) as travel_spend_pct,
        cast(necessities_spend_pct as decimal(18, 4)) as necessities_spend_pct,
        {{ as_of_date() }} as as_of_date
    from segmented

)

select * from final
