-- Nothing is lost silently. Per day of arrival, in rows and dollars: what was delivered is in the fact, or another row of its
-- transaction is, or it was rejected. And fact and rejected rows are those that raw gives, in every value. A failing row names
-- the day, what differs, and both sides. An amount that is no number counts 0.
{% set rejected_columns = [
    'transaction_id', 'reject_reason', 'customer_id', 'raw_transaction_date', 'raw_transaction_amount', 'merchant_name',
    'raw_merchant_category', 'channel', 'status', 'ingested_at',
] %}
{% set arrived_on_touched_day = arrived_on_touched_days() %}
{% set rejected_amount = amount_of('raw_transaction_amount') %}

{% set usable_content -%}
    {{ arrival_day('ingested_at') }} as arrival_day,
        count(*) as row_count,
        coalesce(sum(transaction_amount), 0) as amount,
        {{ rows_checksum([transaction_columns()]) }} as checksum
{%- endset %}

{% set rejected_content -%}
    {{ arrival_day('ingested_at') }} as arrival_day,
        count(*) as row_count,
        coalesce(sum({{ rejected_amount }}), 0) as amount,
        {{ rows_checksum(rejected_columns) }} as checksum
{%- endset %}

{% set usable_rows -%}
    select
        transaction_id,
        transaction_amount,
        {{ arrival_day('ingested_at') }} as arrival_day
    from {{ ref('stg_transaction_rows') }}
    where
        reject_reason is null
        and {{ arrived_on_touched_day }}
{%- endset %}

with delivered as (

    select
        {{ arrival_day('ingested_at') }} as arrival_day,
        count(*) as row_count,
        coalesce(sum({{ amount_of('cast(transaction_amount as varchar)') }}), 0) as amount
    from {{ source('raw', 'transactions') }}
    where {{ arrived_on_touched_day }}
    group by arrival_day

),

usable_rows as (

    {{ usable_rows }}

),

usable as (

    select
        arrival_day,
        count(*) as row_count,
        coalesce(sum(transaction_amount), 0) as amount
    from usable_rows
    group by arrival_day

),

{% if touched_only() %}

competing_rows as (

    select
        {{ competing_columns() }}
    from {{ ref('stg_transaction_rows') }}
    where
        reject_reason is null
        and {{ ids_within('(' ~ usable_rows ~ ') as usable_rows', 'raw_transaction_id') }}
        and transaction_id in (select usable_rows.transaction_id from usable_rows)

),

latest as (

    {{ latest_ingested('competing_rows') }}

),

{% else %}

latest as (

    select * from {{ ref('stg_transactions') }}

),

{% endif %}

to_accept as (

    select
        {{ usable_content }}
    from latest
    where {{ arrived_on_touched_day }}
    group by arrival_day

),

accepted as (

    select
        {{ usable_content }}
    from {{ ref('fct_transactions') }}
    where {{ arrived_on_touched_day }}
    group by arrival_day

),

to_reject as (

    select
        {{ rejected_content }}
    from {{ ref('stg_transaction_rows') }}
    where
        reject_reason is not null
        and {{ arrived_on_touched_day }}
    group by arrival_day

),

rejected as (

    select
        {{ rejected_content }}
    from {{ ref('rejected_transactions') }}
    where {{ arrived_on_touched_day }}
    group by arrival_day

),

-- Superseded are usable rows without those to accept.
accounted_parts as (

    select
        arrival_day,
        row_count,
        amount
    from accepted
    union all
    select
        arrival_day,
        row_count,
        amount
    from usable
    union all
    select
        arrival_day,
        -row_count as row_count,
        -amount as amount
    from to_accept
    union all
    select
        arrival_day,
        row_count,
        amount
    from rejected

),

accounted as (

    select
        arrival_day,
        sum(row_count) as row_count,
        sum(amount) as amount
    from accounted_parts
    group by arrival_day

),

expected as (

    select
        arrival_day,
        'delivered = accepted + superseded + rejected' as what,
        cast(row_count as varchar) || ' rows, ' || cast(amount as varchar) || ' dollars' as content
    from delivered
    union all
    select
        arrival_day,
        'accepted' as what,
        cast(row_count as varchar) || ' rows, ' || cast(amount as varchar) || ' dollars, checksum ' || checksum as content
    from to_accept
    union all
    select
        arrival_day,
        'rejected' as what,
        cast(row_count as varchar) || ' rows, ' || cast(amount as varchar) || ' dollars, checksum ' || checksum as content
    from to_reject

),

observed as (

    select
        arrival_day,
        'delivered = accepted + superseded + rejected' as what,
        cast(row_count as varchar) || ' rows, ' || cast(amount as varchar) || ' dollars' as content
    from accounted
    union all
    select
        arrival_day,
        'accepted' as what,
        cast(row_count as varchar) || ' rows, ' || cast(amount as varchar) || ' dollars, checksum ' || checksum as content
    from accepted
    union all
    select
        arrival_day,
        'rejected' as what,
        cast(row_count as varchar) || ' rows, ' || cast(amount as varchar) || ' dollars, checksum ' || checksum as content
    from rejected

),

final as (

    select
        coalesce(expected.arrival_day, observed.arrival_day) as arrival_day,
        coalesce(expected.what, observed.what) as what,
        coalesce(expected.content, 'no rows') as expected,
        coalesce(observed.content, 'no rows') as observed
    from expected
    full outer join observed
        on
            expected.arrival_day = observed.arrival_day
            and expected.what = observed.what
    where expected.content is distinct from observed.content

)

select *
from final
order by arrival_day, what
