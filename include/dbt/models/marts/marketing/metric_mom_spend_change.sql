{{ config(schema=run_schema('marts')) }}

with months_with_spend as (

    select * from {{ ref('fct_customer_months') }}

),

dates as (

    select * from {{ ref('dim_date') }}

),

-- A month in progress would read as a decline.
complete_months as (

    select date_day as month
    from dates
    where
        date_day = month
        and month_end <= {{ as_of_date() }}

),

monthly_spend as (

    select
        customer_id,
        month,
        spend
    from months_with_spend
    where {{ dbt.last_day('month', 'month') }} <= {{ as_of_date() }}

),

first_months as (

    select
        customer_id,
        min(month) as first_month
    from monthly_spend
    group by customer_id

),

customer_months as (

    select
        first_months.customer_id,
        complete_months.month,
        {{ dbt.datediff('first_months.first_month', 'complete_months.month', 'month') }} + 1 as month_number
    from first_months
    inner join complete_months on first_months.first_month <= complete_months.month

),

spend as (

    select
        customer_months.customer_id,
        customer_months.month,
        customer_months.month_number,
        coalesce(monthly_spend.spend, 0) as monthly_spend,
        lag(coalesce(monthly_spend.spend, 0)) over (
            partition by customer_months.customer_id
            order by customer_months.month
        ) as prior_month_spend
    from customer_months
    left join monthly_spend
        on
            customer_months.customer_id = monthly_spend.customer_id
            and customer_months.month = monthly_spend.month

),

changed as (

    select
        *,
        {{ ratio('monthly_spend - prior_month_spend', 'prior_month_spend', 100) }} as mom_change_pct
    from spend

),

final as (

    select
        customer_id,
        month,
        cast(month_number as integer) as month_number,
        cast(monthly_spend as decimal(18, 2)) as monthly_spend,
        cast(prior_month_spend as decimal(18, 2)) as prior_month_spend,
        mom_change_pct,
        cast(
            case
                when month_number = 1 then 'First Month'
                when prior_month_spend = 0 and monthly_spend > 0 then 'High Growth'
                when prior_month_spend = 0 then 'Flat'
                when mom_change_pct > {{ var('mom_high_growth_pct') }} then 'High Growth'
                when mom_change_pct > 0 then 'Growth'
                when mom_change_pct = 0 then 'Flat'
                when mom_change_pct >= {{ var('mom_high_decline_pct') }} then 'Decline'
                else 'High Decline'
            end as varchar
        ) as mom_trend_category,
        {{ as_of_date() }} as as_of_date
    from changed

)

select * from final
