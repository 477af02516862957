{{ config(schema=run_schema('intermediate')) }}

with transactions as (

    select * from {{ ref('fct_transactions') }}

),

categories as (

    select * from {{ ref('dim_merchant_category') }}

),

counted as (

    select
        transactions.customer_id,
        transactions.transaction_date,
        transactions.transaction_amount,
        categories.is_travel,
        categories.is_necessity
    from transactions
    left join categories on transactions.merchant_category = categories.merchant_category
    where
        transactions.status = 'approved'
        and transactions.transaction_date <= {{ as_of_date() }}

),

aggregated as (

    select
        customer_id,
        count(*) as total_transactions,
        sum(transaction_amount) as lifetime_value,
        min(transaction_date) as first_transaction_date,
        max(transaction_date) as last_transaction_date,
        min(transaction_amount) as min_transaction_value,
        max(transaction_amount) as max_transaction_value,
        stddev_samp(cast(transaction_amount as double)) as transaction_value_stddev,
        median(cast(transaction_amount as double)) as median_transaction_value,
        sum(
            case
                when transaction_date > {{ days_before_as_of(var('spend_window_days')) }} then transaction_amount
                else 0
            end
        ) as spend_last_90_days,
        sum(
            case
                when
                    transaction_date > {{ days_before_as_of(2 * var('spend_window_days')) }}
                    and transaction_date <= {{ days_before_as_of(var('spend_window_days')) }}
                    then transaction_amount
                else 0
            end
        ) as spend_prior_90_days,
        sum(case when is_travel then transaction_amount else 0 end) as travel_spend,
        sum(case when is_necessity then transaction_amount else 0 end) as necessities_spend
    from counted
    group by customer_id

),

final as (

    select
        customer_id,
        cast(total_transactions as bigint) as total_transactions,
        cast(lifetime_value as decimal(18, 2)) as lifetime_value,
        first_transaction_date,
        last_transaction_date,
        min_transaction_value,
        max_transaction_value,
        {{ ratio('lifetime_value', 'total_transactions') }} as avg_transaction_value,
        cast(round(transaction_value_stddev, 4) as decimal(18, 4)) as transaction_value_stddev,
        cast(round(median_transaction_value, 4) as decimal(18, 4)) as median_transaction_value,
        cast(spend_last_90_days as decimal(18, 2)) as spend_last_90_days,
        cast(spend_prior_90_days as decimal(18, 2)) as spend_prior_90_days,
        cast(travel_spend as decimal(18, 2)) as travel_spend,
        cast(necessities_spend as decimal(18, 2)) as necessities_spend
    from aggregated

)

select * from final
