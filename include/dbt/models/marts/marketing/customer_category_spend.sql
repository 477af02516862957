{{ config(schema=run_schema('marts')) }}

with transactions as (

    select * from {{ ref('fct_transactions') }}

),

categories as (

    select * from {{ ref('dim_merchant_category') }}

),

-- The days of the window, and no others: few, however long the history.
spent as (

    select
        customer_id,
        merchant_category,
        count(*) as transactions,
        sum(transaction_amount) as spend
    from transactions
    where
        status = 'approved'
        and transaction_date <= {{ as_of_date() }}
        and transaction_date > {{ days_before_as_of(var('spend_window_days')) }}
    group by customer_id, merchant_category

),

final as (

    select
        spent.customer_id,
        spent.merchant_category,
        categories.category_group,
        cast(spent.transactions as bigint) as transactions,
        cast(spent.spend as decimal(18, 2)) as spend,
        {{ as_of_date() }} as as_of_date
    from spent
    left join categories on spent.merchant_category = categories.merchant_category

)

select * from final
