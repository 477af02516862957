{% set not_versioned = [
    'first_name', 'last_name', 'email', 'age', 'state', 'city', 'employment_status', 'account_open_date', 'marketing_opt_in',
    'ads_opt_in', 'account_closed_date', 'deceased_date',
] %}

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
        numbered.card_type,
        numbered.credit_limit,
        {%- for column in not_versioned %}
        case
            when customers.customer_id is not null then customers.{{ column }} else numbered.{{ column }}
        end as {{ column }},
        {%- endfor %}
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
                else coalesce(account_open_date, cast('{{ var("calendar_first_day") }}' as date))
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
        ads_opt_in,
        account_closed_date,
        deceased_date,
        valid_from,
        coalesce(next_valid_from, cast('9999-12-31' as date)) as valid_to,
        next_valid_from is null as is_current
    from ended

)

select * from final
