{{ config(schema=run_schema('marts')) }}

with segments as (

    select * from {{ ref('customer_segments') }}

),

transactions as (

    select * from {{ ref('int_customer_transactions') }}

),

final as (

    select
        segments.customer_id,
        segments.customer_segment,
        transactions.avg_transaction_value,
        transactions.transaction_value_stddev,
        transactions.min_transaction_value,
        transactions.max_transaction_value,
        transactions.median_transaction_value,
        cast(
            case
                when transactions.transaction_value_stddev < {{ var('consistent_stddev') }} then 'Consistent'
                when transactions.transaction_value_stddev < {{ var('moderate_stddev') }} then 'Moderate'
                when transactions.transaction_value_stddev is not null then 'Variable'
            end as varchar
        ) as spending_consistency,
        {{ as_of_date() }} as as_of_date
    from segments
    left join transactions on segments.customer_id = transactions.customer_id

)

select * from final
