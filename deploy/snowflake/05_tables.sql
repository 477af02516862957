-- Every other table is made by the run that fills it, and so belongs to the transformer.
use role sysadmin;

create table if not exists {{ deployment }}.raw.customers (
    customer_id varchar,
    first_name varchar,
    last_name varchar,
    email varchar,
    age integer,
    state varchar,
    city varchar,
    employment_status varchar,
    card_type varchar,
    credit_limit decimal(18, 2),
    account_open_date date,
    marketing_opt_in boolean,
    ads_opt_in boolean,
    account_closed_date date,
    deceased_date date,
    updated_at timestamp_ntz
);

-- Tables made before these columns were.
alter table {{ deployment }}.raw.customers add column if not exists ads_opt_in boolean;

alter table {{ deployment }}.raw.customers add column if not exists account_closed_date date;

alter table {{ deployment }}.raw.customers add column if not exists deceased_date date;

-- The amount as delivered: what is no number is kept here, and rejected with a reason later.
create table if not exists {{ deployment }}.raw.transactions (
    transaction_id varchar,
    customer_id varchar,
    transaction_date date,
    transaction_amount varchar,
    merchant_name varchar,
    merchant_category varchar,
    channel varchar,
    status varchar,
    ingested_at timestamp_ntz,
    source_row bigint
);
