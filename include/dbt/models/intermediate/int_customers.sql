{{ config(schema=run_schema('intermediate')) }}

with customers as (

    select * from {{ ref('dim_customer') }}

),

transactions as (

    select * from {{ ref('int_customer_transactions') }}

),

existing as (

    select
        customers.*,
        transactions.first_transaction_date
    from customers
    left join transactions on customers.customer_id = transactions.customer_id
    where
        coalesce(customers.account_open_date, cast('{{ var("calendar_first_day") }}' as date)) <= {{ as_of_date() }}
        or transactions.first_transaction_date <= {{ as_of_date() }}

),

-- The version valid on as_of_date; before the first version's begin, the first.
as_of_version as (

    select *
    from existing
    qualify row_number() over (
        partition by customer_id
        order by
            case when valid_from <= {{ as_of_date() }} then version_number end desc nulls last,
            version_number asc
    ) = 1

),

final as (

    select
        customer_key,
        customer_id,
        first_name,
        last_name,
        email,
        age,
        state,
        city,
        employment_status,
        card_type,
        credit_limit,
        account_open_date,
        marketing_opt_in,
        ads_opt_in,
        account_closed_date,
        deceased_date
    from as_of_version

)

select * from final
