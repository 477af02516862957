{{ config(schema=run_schema('marts')) }}

with segments as (

    select * from {{ ref('customer_segments') }}

),

transactions as (

    select * from {{ ref('int_customer_transactions') }}

),

joined as (

    select
        segments.customer_id,
        segments.customer_segment,
        coalesce(transactions.lifetime_value, 0) as lifetime_value,
        coalesce(transactions.total_transactions, 0) as total_transactions,
        transactions.first_transaction_date,
        transactions.last_transaction_date,
        coalesce(
            {{ dbt.datediff('transactions.first_transaction_date', 'transactions.last_transaction_date', 'day') }}, 0
        ) as customer_age_days
    from segments
    left join transactions on segments.customer_id = transactions.customer_id

),

final as (

    select
        customer_id,
        customer_segment,
        cast(lifetime_value as decimal(18, 2)) as lifetime_value,
        cast(total_transactions as bigint) as total_transactions,
        first_transaction_date,
        last_transaction_date,
        cast(customer_age_days as integer) as customer_age_days,
        {{ ratio('lifetime_value', 'customer_age_days') }} as avg_spend_per_day,
        {{ as_of_date() }} as as_of_date
    from joined

)

select * from final
