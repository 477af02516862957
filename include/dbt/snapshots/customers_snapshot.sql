{% snapshot customers_snapshot %}

{{
    config(
        unique_key='customer_id',
        strategy='check',
        check_cols=['card_type', 'credit_limit']
    )
}}

with customers as (

    select * from {{ source('raw', 'customers') }}

),

typed as (

    {{ current_customers('customers') }}

),

final as (

    select
        *,
        -- Without an updated_at of the source, a change counts from the date of the run that saw it. It is no dbt updated_at:
        -- two changes with the same one would get the same dbt_scd_id, and an older one would end before it began.
        coalesce(cast(updated_at as date), {{ as_of_date() }}) as changed_on
    from typed

)

select * from final

{% endsnapshot %}
