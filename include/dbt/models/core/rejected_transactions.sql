-- depends_on: {{ ref('fct_transactions') }}
-- Built after the fact: the fact's next load reads what this table holds now.
with transaction_rows as (

    select * from {{ ref('stg_transaction_rows') }}

),

final as (

    select
        transaction_id,
        reject_reason,
        customer_id,
        raw_transaction_date,
        raw_transaction_amount,
        merchant_name,
        raw_merchant_category,
        channel,
        status,
        ingested_at
    from transaction_rows
    where reject_reason is not null

)

select * from final
