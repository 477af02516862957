-- Nothing is lost silently: every raw row is in the fact, repeats one that is, or was rejected with a reason.
with raw_rows as (

    select count(*) as row_count from {{ source('raw', 'transactions') }}

),

usable as (

    select
        count(*) as row_count,
        count(distinct transaction_id) as transaction_count
    from {{ ref('stg_transaction_rows') }}
    where reject_reason is null

),

accepted as (

    select count(*) as row_count from {{ ref('fct_transactions') }}

),

rejected as (

    select count(*) as row_count from {{ ref('rejected_transactions') }}

),

final as (

    select
        raw_rows.row_count as raw_count,
        accepted.row_count as accepted_count,
        usable.row_count - usable.transaction_count as duplicate_count,
        rejected.row_count as rejected_count
    from raw_rows
    cross join usable
    cross join accepted
    cross join rejected

)

select *
from final
where raw_count <> accepted_count + duplicate_count + rejected_count
