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
        -- Fill in: what the metric measures. As written, the share of the last 90 days in lifetime value, in percent.
        {{ ratio('transactions.spend_last_90_days', 'transactions.lifetime_value', 100) }} as $column,
        {{ as_of_date() }} as as_of_date
    from segments
    left join transactions on segments.customer_id = transactions.customer_id

)

select * from final
