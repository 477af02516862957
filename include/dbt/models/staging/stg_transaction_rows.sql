with transactions as (

    select * from {{ source('raw', 'transactions') }}

),

known_customers as (

    select distinct customer_id from {{ ref('customers_snapshot') }}

),

categories as (

    select merchant_category from {{ ref('merchant_categories') }}

),

typed as (

    select
        transaction_id as raw_transaction_id,
        nullif(transaction_id, '') as transaction_id,
        customer_id,
        {{ try_cast_as('transaction_date', 'date') }} as transaction_date,
        {{ try_cast_as('transaction_amount', 'decimal(18, 2)') }} as transaction_amount,
        merchant_name,
        merchant_category as raw_merchant_category,
        channel,
        lower(status) as status,
        cast(ingested_at as timestamp) as ingested_at,
        transaction_amount as raw_transaction_amount,
        transaction_date as raw_transaction_date
    from transactions

),

final as (

    select
        typed.transaction_id,
        typed.customer_id,
        typed.transaction_date,
        typed.transaction_amount,
        typed.merchant_name,
        coalesce(categories.merchant_category, 'Uncategorized') as merchant_category,
        typed.channel,
        typed.status,
        typed.ingested_at,
        typed.raw_transaction_id,
        cast(typed.raw_transaction_amount as varchar) as raw_transaction_amount,
        cast(typed.raw_transaction_date as varchar) as raw_transaction_date,
        typed.raw_merchant_category,
        -- What was delivered as text is only looked at where it gave no value: millions of rows pass here.
        case
            when typed.transaction_id is null then 'no transaction_id'
            when known_customers.customer_id is null then 'unknown customer'
            when typed.transaction_amount is null
                then
                    case
                        when nullif(trim(cast(typed.raw_transaction_amount as varchar)), '') is null then 'amount missing'
                        else 'amount not a number'
                    end
            when typed.transaction_amount <= 0 then 'amount not positive'
            when typed.transaction_date is null
                then
                    case
                        when nullif(trim(cast(typed.raw_transaction_date as varchar)), '') is null then 'date missing'
                        else 'date not a date'
                    end
            when
                typed.transaction_date < cast('{{ var("calendar_first_day") }}' as date)
                or typed.transaction_date > cast('{{ var("calendar_last_day") }}' as date)
                then 'date out of range'
        end as reject_reason
    from typed
    left join known_customers on typed.customer_id = known_customers.customer_id
    left join categories on typed.raw_merchant_category = categories.merchant_category

)

select * from final
