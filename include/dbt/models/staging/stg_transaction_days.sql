{{ config(materialized='table') }}

{% set delivered_columns = [
    'transaction_id', 'customer_id', 'transaction_date', 'transaction_amount', 'merchant_name', 'merchant_category', 'channel',
    'status', 'ingested_at',
] + (['source_row'] if has_source_row() else []) %}

-- Built before the fact, which is loaded from what differs: rows that arrive between the two are loaded by the next run.
with transactions as (

    select * from {{ source('raw', 'transactions') }}

),

categories as (

    select {{ rows_checksum(['merchant_category', 'category_group']) }} as checksum
    from {{ ref('merchant_categories') }}

),

dated as (

    select
        *,
        {{ arrival_day('ingested_at') }} as arrival_day
    from transactions
    {%- if load_arrived_before() %}
    where {{ arrived_in_range('ingested_at') }}
    {%- endif %}

),

days as (

    select
        arrival_day,
        count(*) as row_count,
        {{ rows_checksum(delivered_columns) }} as checksum
    from dated
    group by arrival_day

),

final as (

    select
        days.arrival_day,
        days.row_count,
        days.checksum,
        '{{ loading_rules() }}' || '-' || categories.checksum as loading_rules
    from days
    cross join categories

)

select * from final
