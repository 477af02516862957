-- The six marts as one engineer would write them by hand for DuckDB alone: one pass over the fact per grain, no tests,
-- no contracts, no other engine in mind. The dbt build of the same tables is measured against it, and its rows must be
-- the same.
drop schema if exists hand_tuned cascade;
create schema hand_tuned;
use hand_tuned;
set variable as_of_date = cast('{as_of_date}' as date);

create temp table per_customer as
select
    customer_id,
    count(*) as total_transactions,
    sum(transaction_amount)::decimal(18, 2) as lifetime_value,
    min(transaction_date) as first_transaction_date,
    max(transaction_date) as last_transaction_date,
    min(transaction_amount) as min_transaction_value,
    max(transaction_amount) as max_transaction_value,
    round(stddev_samp(transaction_amount::double), 4)::decimal(18, 4) as transaction_value_stddev,
    round(median(transaction_amount::double), 4)::decimal(18, 4) as median_transaction_value,
    coalesce(sum(transaction_amount) filter (transaction_date > getvariable('as_of_date') - 90), 0)::decimal(18, 2)
        as spend_last_90_days,
    coalesce(
        sum(transaction_amount) filter (
            transaction_date > getvariable('as_of_date') - 180 and transaction_date <= getvariable('as_of_date') - 90
        ), 0
    )::decimal(18, 2) as spend_prior_90_days,
    coalesce(sum(transaction_amount) filter (merchant_category in ('Travel', 'Airlines', 'Hotels')), 0) as travel_spend,
    coalesce(sum(transaction_amount) filter (merchant_category in ('Grocery', 'Gas', 'Utilities')), 0)
        as necessities_spend
from core.fct_transactions
where status = 'approved' and transaction_date <= getvariable('as_of_date')
group by all;

create temp table customers as
select customers.*
from core.dim_customer as customers
left join per_customer using (customer_id)
where
    coalesce(account_open_date, date '1900-01-01') <= getvariable('as_of_date')
    or first_transaction_date is not null
qualify row_number() over (
    partition by customer_id
    order by
        case when valid_from <= getvariable('as_of_date') then version_number end desc nulls last,
        version_number
) = 1;

create table customer_segments as
with measured as (
    select
        customers.customer_id,
        first_transaction_date,
        datediff('month', first_transaction_date, getvariable('as_of_date'))::integer as tenure_months,
        coalesce(spend_last_90_days, 0)::decimal(18, 2) as spend_last_90_days,
        coalesce(spend_prior_90_days, 0)::decimal(18, 2) as spend_prior_90_days,
        round((spend_last_90_days - spend_prior_90_days)::double / nullif(spend_prior_90_days::double, 0) * 100, 4)
        ::decimal(18, 4) as spend_change_pct,
        coalesce(round(spend_last_90_days::double / 3, 4), 0)::decimal(18, 4) as avg_monthly_spend,
        coalesce(round(travel_spend::double / nullif(lifetime_value::double, 0) * 100, 4), 0)::decimal(18, 4)
            as travel_spend_pct,
        coalesce(round(necessities_spend::double / nullif(lifetime_value::double, 0) * 100, 4), 0)::decimal(18, 4)
            as necessities_spend_pct
    from customers
    left join per_customer using (customer_id)
)

select
    customer_id,
    case
        when first_transaction_date is null then null
        when avg_monthly_spend >= 5000 and travel_spend_pct >= 25 then 'High-Value Travelers'
        when spend_change_pct <= -30 and spend_prior_90_days >= 2000 then 'Declining'
        when
            tenure_months <= 6
            and (spend_change_pct >= 50 or (spend_prior_90_days = 0 and spend_last_90_days > 0))
            then 'New & Growing'
        when avg_monthly_spend < 1500 and necessities_spend_pct >= 60 then 'Budget-Conscious'
        else 'Stable Mid-Spenders'
    end as customer_segment,
    getvariable('as_of_date') as segment_assigned_date,
    tenure_months,
    spend_last_90_days,
    spend_prior_90_days,
    spend_change_pct,
    avg_monthly_spend,
    travel_spend_pct,
    necessities_spend_pct,
    getvariable('as_of_date') as as_of_date
from measured;

create table metric_customer_ltv as
select
    customer_id,
    customer_segment,
    coalesce(lifetime_value, 0)::decimal(18, 2) as lifetime_value,
    coalesce(total_transactions, 0)::bigint as total_transactions,
    first_transaction_date,
    last_transaction_date,
    coalesce(last_transaction_date - first_transaction_date, 0)::integer as customer_age_days,
    round(lifetime_value::double / nullif((last_transaction_date - first_transaction_date)::double, 0), 4)
    ::decimal(18, 4) as avg_spend_per_day,
    as_of_date
from customer_segments
left join per_customer using (customer_id);

create table metric_avg_transaction_value as
select
    customer_id,
    customer_segment,
    round(lifetime_value::double / nullif(total_transactions::double, 0), 4)::decimal(18, 4) as avg_transaction_value,
    transaction_value_stddev,
    min_transaction_value,
    max_transaction_value,
    median_transaction_value,
    case
        when transaction_value_stddev < 50 then 'Consistent'
        when transaction_value_stddev < 200 then 'Moderate'
        when transaction_value_stddev >= 200 then 'Variable'
    end as spending_consistency,
    as_of_date
from customer_segments
left join per_customer using (customer_id);

create table metric_mom_spend_change as
with monthly as (
    select
        customer_id,
        date_trunc('month', transaction_date)::date as month,
        sum(transaction_amount)::decimal(18, 2) as monthly_spend
    from core.fct_transactions
    where
        status = 'approved'
        and transaction_date < date_trunc('month', getvariable('as_of_date') + 1)
    group by all
),

dense as (
    select
        customer_id,
        unnest(generate_series(
            min(month), date_trunc('month', getvariable('as_of_date') + 1) - interval 1 month, interval 1 month
        ))::date as month
    from monthly
    group by customer_id
),

changed as (
    select
        customer_id,
        month,
        row_number() over customer_months as month_number,
        coalesce(monthly_spend, 0)::decimal(18, 2) as monthly_spend,
        lag(coalesce(monthly_spend, 0)::decimal(18, 2)) over customer_months as prior_month_spend
    from dense
    left join monthly using (customer_id, month)
    window customer_months as (partition by customer_id order by month)
),

measured as (
    select
        *,
        round((monthly_spend - prior_month_spend)::double / nullif(prior_month_spend::double, 0) * 100, 4)
        ::decimal(18, 4) as mom_change_pct
    from changed
)

select
    customer_id,
    month,
    month_number::integer as month_number,
    monthly_spend,
    prior_month_spend,
    mom_change_pct,
    case
        when month_number = 1 then 'First Month'
        when prior_month_spend = 0 and monthly_spend > 0 then 'High Growth'
        when prior_month_spend = 0 then 'Flat'
        when mom_change_pct > 50 then 'High Growth'
        when mom_change_pct > 0 then 'Growth'
        when mom_change_pct = 0 then 'Flat'
        when mom_change_pct >= -30 then 'Decline'
        else 'High Decline'
    end as mom_trend_category,
    getvariable('as_of_date') as as_of_date
from measured;

create table customer_category_spend as
select
    transactions.customer_id,
    transactions.merchant_category,
    any_value(categories.category_group) as category_group,
    count(*) as transactions,
    sum(transactions.transaction_amount)::decimal(18, 2) as spend,
    getvariable('as_of_date') as as_of_date
from core.fct_transactions as transactions
left join core.dim_merchant_category as categories using (merchant_category)
where
    transactions.status = 'approved'
    and transactions.transaction_date <= getvariable('as_of_date')
    and transactions.transaction_date > getvariable('as_of_date') - 90
group by transactions.customer_id, transactions.merchant_category;

create table customer_360_profile as
select
    customer_id,
    customer_key,
    nullif(trim(concat(coalesce(first_name, ''), ' ', coalesce(last_name, ''))), '') as full_name,
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
    datediff('day', account_open_date, segments.as_of_date)::integer as account_age_days,
    marketing_opt_in,
    ads_opt_in,
    account_closed_date,
    deceased_date,
    segments.customer_segment,
    segment_assigned_date,
    tenure_months,
    lifetime_value,
    total_transactions,
    customer_age_days,
    avg_spend_per_day,
    avg_transaction_value,
    transaction_value_stddev,
    min_transaction_value,
    max_transaction_value,
    median_transaction_value,
    spending_consistency,
    spend_last_90_days,
    spend_prior_90_days,
    spend_change_pct,
    avg_monthly_spend,
    first_transaction_date,
    last_transaction_date,
    (segments.as_of_date - last_transaction_date)::integer as days_since_last_transaction,
    case
        when segments.as_of_date - last_transaction_date <= 30 then 'Active (30 days)'
        when segments.as_of_date - last_transaction_date <= 60 then 'Recent (60 days)'
        when segments.as_of_date - last_transaction_date <= 90 then 'At Risk (90 days)'
        else 'Inactive (90+ days)'
    end as recency_status,
    travel_spend_pct,
    necessities_spend_pct,
    case
        when travel_spend_pct >= 25 then 'Travel-Focused'
        when necessities_spend_pct >= 60 then 'Necessity-Focused'
        else 'Balanced'
    end as spending_profile,
    coalesce(segments.customer_segment = 'Declining', false) as eligible_for_retention_campaign,
    coalesce(segments.customer_segment = 'New & Growing', false) as eligible_for_onboarding_campaign,
    coalesce(segments.customer_segment = 'High-Value Travelers', false) as eligible_for_premium_campaign,
    null::decimal(18, 4) as churn_risk_score,
    null::varchar as churn_risk_category,
    segments.as_of_date as profile_updated_date,
    segments.as_of_date as as_of_date
from customers
inner join customer_segments as segments using (customer_id)
inner join metric_customer_ltv using (customer_id)
inner join metric_avg_transaction_value using (customer_id);
