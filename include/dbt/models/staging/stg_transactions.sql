with transaction_rows as (

    select * from {{ ref('stg_transaction_rows') }}

),

accepted as (

    select
        {{ transaction_columns() }}
    from transaction_rows
    where reject_reason is null

),

final as (

    {{ latest_ingested('accepted') }}

)

select * from final
