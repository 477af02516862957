with transaction_rows as (

    select * from {{ ref('stg_transaction_rows') }}

),

accepted as (

    select
        transaction_id,
        customer_id,
        transaction_date,
        transaction_amount,
        merchant_name,
        merchant_category,
        channel,
        status,
        ingested_at
    from transaction_rows
    where reject_reason is null

),

final as (

    {{ latest_ingested('accepted') }}

)

select * from final
