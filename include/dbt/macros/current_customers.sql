{% macro current_customers(relation) -%}
    {#- One typed row per customer_id, the latest updated; every other column breaks the tie. Read by stg_customers and by
        customers_snapshot, which must not depend on staging: staging depends on it. -#}
    {%- set optional_columns = {'ads_opt_in': 'boolean', 'account_closed_date': 'date', 'deceased_date': 'date'} -%}
    {%- set there = raw_types('customers') %}
    with latest as (

        select *
        from {{ relation }}
        where nullif(trim(customer_id), '') is not null
        qualify row_number() over (
            partition by customer_id
            order by
                updated_at desc nulls last,
                account_open_date asc nulls last,
                email asc nulls last,
                card_type asc nulls last,
                credit_limit desc nulls last,
                last_name asc nulls last,
                first_name asc nulls last,
                age asc nulls last,
                state asc nulls last,
                city asc nulls last,
                employment_status asc nulls last,
                marketing_opt_in asc nulls last
                {%- for column in optional_columns if column in there %},
                {{ column }} asc nulls last
                {%- endfor %}
        ) = 1

    )

    select
        customer_id,
        first_name,
        last_name,
        lower(email) as email,
        cast(age as integer) as age,
        state,
        city,
        employment_status,
        card_type,
        cast(credit_limit as decimal(18, 2)) as credit_limit,
        cast(account_open_date as date) as account_open_date,
        cast(marketing_opt_in as boolean) as marketing_opt_in,
        {%- for column, type in optional_columns.items() %}
        cast({{ column if column in there else 'null' }} as {{ type }}) as {{ column }},
        {%- endfor %}
        cast(updated_at as timestamp) as updated_at
    from latest
{%- endmacro %}
