{{ config(schema=run_schema('intermediate')) }}

-- The one look at all transactions: the middle of many amounts does not follow from the middles of their parts.
with transactions as (

    select * from {{ ref('fct_transactions') }}

),

medians as (

    select
        customer_id,
        median(cast(transaction_amount as double)) as median_transaction_value
    from transactions
    where
        status = 'approved'
        and transaction_date <= {{ as_of_date() }}
    group by customer_id

),

final as (

    select
        customer_id,
        cast(round(median_transaction_value, 4) as decimal(18, 4)) as median_transaction_value
    from medians

)

select * from final
