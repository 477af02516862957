-- The first load of the fact as one engineer would write it by hand for DuckDB alone: raw rows typed, the latest ingested
-- of each transaction kept, rows that cannot be used split off with their reason. No ledger of what was loaded, no later
-- load in mind, no other engine. The dbt build of the same two tables is measured against it, and its rows must be the same.
drop schema if exists hand_tuned_load cascade;
create schema hand_tuned_load;
use hand_tuned_load;

create temp view typed as
with transactions as (
    select
        * replace (
            nullif(transaction_id, '') as transaction_id,
            try_cast(transaction_amount as decimal(18, 2)) as transaction_amount,
            lower(status) as status
        ),
        transaction_amount as raw_transaction_amount
    from raw.transactions
)

select
    transaction_id,
    transactions.customer_id,
    transaction_date,
    transaction_amount,
    merchant_name,
    coalesce(categories.merchant_category, 'Uncategorized') as merchant_category,
    channel,
    status,
    ingested_at,
    raw_transaction_amount,
    transactions.merchant_category as raw_merchant_category,
    case
        when transaction_id is null then 'no transaction_id'
        when customers.customer_id is null then 'unknown customer'
        when transaction_amount is null and nullif(trim(raw_transaction_amount), '') is null then 'amount missing'
        when transaction_amount is null then 'amount not a number'
        when transaction_amount <= 0 then 'amount not positive'
        when transaction_date is null then 'date missing'
        when transaction_date not between date '1900-01-01' and date '2199-12-31' then 'date out of range'
    end as reject_reason
from transactions
left join (select distinct customer_id from core.customers_snapshot) as customers using (customer_id)
left join core.merchant_categories as categories on transactions.merchant_category = categories.merchant_category;

-- Of all rows, usable or not: a few more to rank, and nothing to join or to cast.
create temp table repeated as
select transaction_id
from raw.transactions
where transaction_id <> ''
group by transaction_id
having count(*) > 1;

create table fct_transactions as
select * exclude (raw_transaction_amount, raw_merchant_category, reject_reason)
from typed
where reject_reason is null and transaction_id not in (select transaction_id from repeated)
union all by name
select * exclude (raw_transaction_amount, raw_merchant_category, reject_reason)
from typed
where reject_reason is null and transaction_id in (select transaction_id from repeated)
qualify row_number() over (
    partition by transaction_id
    order by
        ingested_at desc nulls last,
        transaction_date desc,
        transaction_amount desc,
        customer_id,
        status nulls last,
        merchant_category,
        merchant_name nulls last,
        channel nulls last
) = 1;

create table rejected_transactions as
select
    transaction_id,
    reject_reason,
    customer_id,
    transaction_date::varchar as raw_transaction_date,
    raw_transaction_amount,
    merchant_name,
    raw_merchant_category,
    channel,
    status,
    ingested_at
from typed
where reject_reason is not null;
