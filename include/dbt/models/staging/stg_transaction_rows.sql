with transactions as (

    select * from {{ source('raw', 'transactions') }}

),

known_customers as (

    select distinct customer_id from {{ ref('customers_snapshot') }}

),

categories as (

    select
        merchant_category,
        {{ normalised('merchant_category') }} as category_key
    from {{ ref('merchant_categories') }}

),

delivered as (

    select
        *,
        cast(transaction_amount as varchar) as raw_transaction_amount
    from transactions

),

typed as (

    select
        transaction_id as raw_transaction_id,
        -- Blanks are no id. Only what begins with a blank is looked at: ids are long, and there are millions.
        case
            when transaction_id > '!' then transaction_id
            when {{ trimmed('transaction_id') }} <> '' then transaction_id
        end as transaction_id,
        customer_id,
        {{ date_of('transaction_date', transaction_date_type()) }} as transaction_date,
        {{ amount_of('raw_transaction_amount') }} as transaction_amount,
        merchant_name,
        merchant_category as raw_merchant_category,
        {{ normalised('merchant_category') }} as category_key,
        channel,
        {{ normalised('status') }} as status,
        cast(ingested_at as timestamp) as ingested_at,
        {{ 'cast(source_row as bigint)' if has_source_row() else 'cast(null as bigint)' }} as source_row,
        raw_transaction_amount,
        transaction_date as raw_transaction_date
    from delivered

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
        typed.source_row,
        typed.raw_transaction_id,
        typed.raw_transaction_amount,
        cast(typed.raw_transaction_date as varchar) as raw_transaction_date,
        typed.raw_merchant_category,
        -- What was delivered as text is only looked at where it gave no value: millions of rows pass here.
        case
            when typed.transaction_id is null then 'no transaction_id'
            when known_customers.customer_id is null then 'unknown customer'
            when typed.transaction_amount is null
                then
                    case
                        when nullif({{ trimmed('typed.raw_transaction_amount') }}, '') is null then 'amount missing'
                        when not {{ matches('typed.raw_transaction_amount', number_pattern()) }} then 'amount not a number'
                        when {{ trimmed('typed.raw_transaction_amount') }} like '-%' then 'amount not positive'
                        else 'amount above limit'
                    end
            when typed.transaction_amount <= 0 then 'amount not positive'
            when typed.transaction_amount > {{ var("largest_transaction_amount") }} then 'amount above limit'
            when typed.transaction_date is null
                then
                    case
                        when nullif({{ trimmed('cast(typed.raw_transaction_date as varchar)') }}, '') is null then 'date missing'
                        else 'date not a date'
                    end
            when
                typed.transaction_date < cast('{{ var("calendar_first_day") }}' as date)
                or typed.transaction_date > cast('{{ var("calendar_last_day") }}' as date)
                then 'date out of range'
        end as reject_reason
    from typed
    left join known_customers on typed.customer_id = known_customers.customer_id
    left join categories on typed.category_key = categories.category_key

)

select * from final
