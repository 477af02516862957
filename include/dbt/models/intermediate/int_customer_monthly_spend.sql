{{ config(schema=run_schema('intermediate')) }}

with transactions as (

    select * from {{ ref('fct_transactions') }}

),

monthly as (

    select
        customer_id,
        cast({{ dbt.date_trunc('month', 'transaction_date') }} as date) as month,
        sum(transaction_amount) as monthly_spend
    from transactions
    where
        status = 'approved'
        and transaction_date <= {{ as_of_date() }}
    group by 1, 2

),

final as (

    select
        customer_id,
        month,
        cast(monthly_spend as decimal(18, 2)) as monthly_spend
    from monthly
    where {{ dbt.last_day('month', 'month') }} <= {{ as_of_date() }}

)

select * from final
