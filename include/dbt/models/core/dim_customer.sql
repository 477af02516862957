with versions as (

    select * from {{ ref('customers_snapshot') }}

),

customers as (

    select * from {{ ref('stg_customers') }}

),

-- dbt_valid_from is when a version was seen, so versions are only ever appended and keep their number.
numbered as (

    select
        *,
        row_number() over (partition by customer_id order by dbt_valid_from, dbt_scd_id) as version_number
    from versions

),

-- What is not versioned follows the source; a customer no longer delivered keeps what each version came with.
described as (

    select
        numbered.customer_id,
        numbered.version_number,
        case
            when customers.customer_id is not null then customers.first_name else numbered.first_name
        end as first_name,
        case
            when customers.customer_id is not null then customers.last_name else numbered.last_name
        end as last_name,
        case
            when customers.customer_id is not null then customers.email else numbered.email
        end as email,
        case
            when customers.customer_id is not null then customers.age else numbered.age
        end as age,
        case
            when customers.customer_id is not null then customers.state else numbered.state
        end as state,
        case
            when customers.customer_id is not null then customers.city else numbered.city
        end as city,
        case
            when customers.customer_id is not null then customers.employment_status else numbered.employment_status
        end as employment_status,
        numbered.card_type,
        numbered.credit_limit,
        case
            when customers.customer_id is not null then customers.account_open_date else numbered.account_open_date
        end as account_open_date,
        case
            when customers.customer_id is not null then customers.marketing_opt_in else numbered.marketing_opt_in
        end as marketing_opt_in,
        numbered.changed_on
    from numbered
    left join customers on numbered.customer_id = customers.customer_id

),

begun as (

    select
        *,
        -- No version begins before the one it replaces, whatever the source's updated_at says.
        max(
            case
                when version_number > 1 then changed_on
                else coalesce(account_open_date, cast('1900-01-01' as date))
            end
        ) over (
            partition by customer_id
            order by version_number
            rows between unbounded preceding and current row
        ) as valid_from
    from described

),

ended as (

    select
        *,
        lead(valid_from) over (partition by customer_id order by version_number) as next_valid_from
    from begun

),

final as (

    select
        {{ dbt.hash("customer_id || '|' || cast(version_number as varchar)") }} as customer_key,
        customer_id,
        cast(version_number as integer) as version_number,
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
        valid_from,
        coalesce(next_valid_from, cast('9999-12-31' as date)) as valid_to,
        next_valid_from is null as is_current
    from ended

)

select * from final
