{{ config(schema=run_schema('intermediate')) }}

{% set open_month = month_of(dbt.dateadd('day', 1, as_of_date())) %}

with transactions as (

    select * from {{ ref('fct_transactions') }}

),

customer_months as (

    select * from {{ ref('fct_customer_months') }}

),

categories as (

    select * from {{ ref('dim_merchant_category') }}

),

medians as (

    select * from {{ ref('int_customer_medians') }}

),

-- The days that the windows and the month in progress need, and no others: few, however long the history.
approved as (

    select
        customer_id,
        transaction_date,
        transaction_amount,
        merchant_category
    from transactions
    where
        status = 'approved'
        and transaction_date <= {{ as_of_date() }}
        and transaction_date >= least({{ days_before_as_of(2 * var('spend_window_days')) }}, {{ open_month }})

),

-- The days of the month in progress, and none of a month that is over on as_of_date.
of_open_month as (

    select
        approved.*,
        categories.is_travel,
        categories.is_necessity
    from approved
    left join categories on approved.merchant_category = categories.merchant_category
    where approved.transaction_date >= {{ open_month }}

),

open_month as (

    select
        customer_id,
        {{ customer_month_measures() }}
    from of_open_month
    group by customer_id

),

months as (

    select
        {{ customer_month_columns() }}
    from customer_months
    where month < {{ open_month }}
    union all
    select
        {{ customer_month_columns() }}
    from open_month

),

totals as (

    select
        customer_id,
        cast(sum(transaction_count) as bigint) as total_transactions,
        cast(sum(spend) as decimal(18, 2)) as lifetime_value,
        {{ cents('sum(spend)') }} as cents,
        cast(sum(squared_cents) as decimal(38, 0)) as squared_cents,
        min(min_transaction_value) as min_transaction_value,
        max(max_transaction_value) as max_transaction_value,
        min(first_transaction_date) as first_transaction_date,
        max(last_transaction_date) as last_transaction_date,
        sum(travel_spend) as travel_spend,
        sum(necessities_spend) as necessities_spend
    from months
    group by customer_id

),

windows as (

    select
        customer_id,
        sum(
            case
                when transaction_date > {{ days_before_as_of(var('spend_window_days')) }} then transaction_amount
                else 0
            end
        ) as spend_last_90_days,
        sum(
            case
                when transaction_date <= {{ days_before_as_of(var('spend_window_days')) }} then transaction_amount
                else 0
            end
        ) as spend_prior_90_days
    from approved
    where transaction_date > {{ days_before_as_of(2 * var('spend_window_days')) }}
    group by customer_id

),

-- Cents from a whole number near their mean: the squares stay whole numbers, and nothing large is taken from its like.
near_mean as (

    select
        customer_id,
        cast(round(cast(cents as double) / total_transactions, 0) as decimal(38, 0)) as cents_near_mean
    from totals

),

centred as (

    select
        totals.customer_id,
        totals.cents - totals.total_transactions * near_mean.cents_near_mean as centred_cents,
        totals.squared_cents
        - 2 * near_mean.cents_near_mean * totals.cents
        + totals.total_transactions * near_mean.cents_near_mean * near_mean.cents_near_mean as centred_squared_cents
    from totals
    inner join near_mean on totals.customer_id = near_mean.customer_id

),

deviations as (

    select
        totals.customer_id,
        case
            when totals.total_transactions > 1
                then
                    sqrt(
                        greatest(
                            (
                                cast(centred.centred_squared_cents as double)
                                - power(cast(centred.centred_cents as double), 2) / totals.total_transactions
                            ) / (totals.total_transactions - 1),
                            0
                        )
                    ) / 100
        end as transaction_value_stddev
    from totals
    inner join centred on totals.customer_id = centred.customer_id

),

final as (

    select
        totals.customer_id,
        totals.total_transactions,
        totals.lifetime_value,
        totals.first_transaction_date,
        totals.last_transaction_date,
        totals.min_transaction_value,
        totals.max_transaction_value,
        {{ ratio('totals.lifetime_value', 'totals.total_transactions') }} as avg_transaction_value,
        cast(round(deviations.transaction_value_stddev, 4) as decimal(18, 4)) as transaction_value_stddev,
        medians.median_transaction_value,
        cast(coalesce(windows.spend_last_90_days, 0) as decimal(18, 2)) as spend_last_90_days,
        cast(coalesce(windows.spend_prior_90_days, 0) as decimal(18, 2)) as spend_prior_90_days,
        cast(totals.travel_spend as decimal(18, 2)) as travel_spend,
        cast(totals.necessities_spend as decimal(18, 2)) as necessities_spend
    from totals
    inner join deviations on totals.customer_id = deviations.customer_id
    left join medians on totals.customer_id = medians.customer_id
    left join windows on totals.customer_id = windows.customer_id

)

select * from final
