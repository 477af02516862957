-- Written by `make semantics` from the dbt semantic models: change those.
-- On Standard Edition it is made of what readers select from there, the views of marts_read.
{%- set readable = 'marts_read' if edition == 'standard' else 'marts' %}
use role sysadmin;

create or replace semantic view {{ deployment }}.{{ readable }}.customer_360
    tables (
        audience_memberships as {{ deployment }}.{{ readable }}.audience_memberships
            primary key (campaign, as_of_date, customer_id)
            with synonyms = ('audiences', 'campaign members', 'target lists')
            comment = 'Audiences: What was decided about each eligible customer, one row per campaign, date and customer. Its figures are those of one date, never added up over dates: without a date they are those of the latest, or of the latest within a filter of dates.',
        campaign_results as {{ deployment }}.{{ readable }}.campaign_results
            primary key (campaign, wave_date, horizon_days)
            with synonyms = ('results', 'lift', 'campaign effect')
            comment = 'Campaign results: What each wave of each campaign changed, one row per campaign, wave and horizon. The horizons of a wave overlap: figures are always of one horizon.',
        customer_360_history as {{ deployment }}.{{ readable }}.customer_360_history
            primary key (customer_id, as_of_date)
            with synonyms = ('customer history', 'customers over time')
            comment = 'Customers by date: Every customer as of each date that was run, one row per customer and date. Its figures are those of one date, never added up over dates: without a date they are those of the latest, or of the latest within a filter of dates.',
        customer_360_profile as {{ deployment }}.{{ readable }}.customer_360_profile
            primary key (customer_id)
            with synonyms = ('customers', 'clients', 'cardholders')
            comment = 'Customers: Every customer as published, one row each, with segment, activity and spend as of the published date.',
        metric_mom_spend_change as {{ deployment }}.{{ readable }}.metric_mom_spend_change
            primary key (customer_id, month)
            with synonyms = ('monthly spend', 'month over month')
            comment = 'Spend by month: What each customer spent in each complete month, one row per customer and month, months without spend included.'
    )
    relationships (
        audience_memberships_of_customer_360_profile as audience_memberships (customer_id) references customer_360_profile (customer_id),
        metric_mom_spend_change_of_customer_360_profile as metric_mom_spend_change (customer_id) references customer_360_profile (customer_id)
    )
    facts (
        campaign_results.treated_customers as treated_customers
            comment = 'Entrants whom the campaign was sent to.',
        campaign_results.held_out_customers as held_out_customers
            comment = 'Entrants who were held out, to compare with.',
        campaign_results.treated_spend_after as treated_spend_after
            comment = 'What all treated customers spent in the days after, in dollars.',
        campaign_results.held_out_spend_after as held_out_spend_after
            comment = 'What all held-out customers spent in the days after, in dollars.',
        campaign_results.lift as lift
            comment = 'What the campaign added per treated customer, in dollars: plain_lift less theta times the difference of the spend before.',
        campaign_results.lift_low as lift_low
            comment = 'Lower bound of the 95 % interval of lift, as that of plain_lift. NULL when nothing varies.',
        campaign_results.lift_high as lift_high
            comment = 'Upper bound of that interval.',
        campaign_results.lift_pct as lift_pct
            comment = 'lift in percent of held_out_spend_after_per_customer; NULL when that is 0.',
        campaign_results.total_effect as total_effect
            comment = 'lift times treated_customers: what the campaign brought in, in dollars.',
        campaign_results.minimum_detectable_effect as minimum_detectable_effect
            comment = 'The lift in dollars that a wave like this one would have shown as significant in 80 % of cases. A campaign that adds less needs a larger holdout, or more waves. NULL without an interval.',
        customer_360_history.lifetime_value as lifetime_value
            comment = 'Sum of approved transactions in dollars until as_of_date inclusive; 0 without any.',
        customer_360_history.total_transactions as total_transactions
            comment = 'Number of approved transactions until as_of_date inclusive; 0 without any.',
        customer_360_history.spend_last_90_days as spend_last_90_days
            comment = 'Approved spend in dollars of the 90 days that end with as_of_date: transaction_date in (as_of_date - 90, as_of_date]; 0 without any.',
        customer_360_history.spend_prior_90_days as spend_prior_90_days
            comment = 'Approved spend in dollars of the 90 days before those: transaction_date in (as_of_date - 180, as_of_date - 90]; 0 without any.',
        customer_360_history.tenure_months as tenure_months
            comment = 'Calendar months from the first approved transaction to as_of_date: month borders crossed, so 31 January to 1 February is 1; NULL before the first transaction.',
        customer_360_profile.age as age
            comment = 'Age in years, as the source has it now; NULL when not delivered.',
        customer_360_profile.credit_limit as credit_limit
            comment = 'Credit limit in dollars (5,000 to 50,000 in the sample); versioned: the limit that the customer had at the time. NULL when not delivered.',
        customer_360_profile.lifetime_value as lifetime_value
            comment = 'Sum of approved transactions in dollars until as_of_date inclusive; 0 without any.',
        customer_360_profile.total_transactions as total_transactions
            comment = 'Number of approved transactions until as_of_date inclusive; 0 without any.',
        customer_360_profile.avg_spend_per_day as avg_spend_per_day
            comment = 'lifetime_value divided by customer_age_days, in dollars a day; NULL when customer_age_days is 0.',
        customer_360_profile.avg_transaction_value as avg_transaction_value
            comment = 'Mean amount of an approved transaction in dollars; NULL without any.',
        customer_360_profile.transaction_value_stddev as transaction_value_stddev
            comment = 'Sample standard deviation of the amounts in dollars; NULL below two transactions.',
        customer_360_profile.median_transaction_value as median_transaction_value
            comment = 'Exact 50th percentile of the approved amounts in dollars (mean of the middle two when their number is even); NULL without any.',
        customer_360_profile.spend_last_90_days as spend_last_90_days
            comment = 'Approved spend in dollars of the 90 days that end with as_of_date: transaction_date in (as_of_date - 90, as_of_date]; 0 without any.',
        customer_360_profile.spend_prior_90_days as spend_prior_90_days
            comment = 'Approved spend in dollars of the 90 days before those: transaction_date in (as_of_date - 180, as_of_date - 90]; 0 without any.',
        customer_360_profile.spend_change_pct as spend_change_pct
            comment = 'Change from spend_prior_90_days to spend_last_90_days in percent (-30 is a fall by 30 %); NULL when spend_prior_90_days is 0.',
        customer_360_profile.avg_monthly_spend as avg_monthly_spend
            comment = 'spend_last_90_days / 3, in dollars a month.',
        customer_360_profile.tenure_months as tenure_months
            comment = 'Calendar months from the first approved transaction to as_of_date: month borders crossed, so 31 January to 1 February is 1; NULL before the first transaction.',
        customer_360_profile.days_since_last_transaction as days_since_last_transaction
            comment = 'Days from last_transaction_date to as_of_date; NULL without a transaction.',
        customer_360_profile.travel_spend_pct as travel_spend_pct
            comment = 'Share of lifetime_value in the group travel (Travel, Airlines, Hotels), in percent 0 to 100; 0 when lifetime_value is 0.',
        customer_360_profile.necessities_spend_pct as necessities_spend_pct
            comment = 'Share of lifetime_value in the group necessities (Grocery, Gas, Utilities), in percent 0 to 100; 0 when lifetime_value is 0.',
        metric_mom_spend_change.month_number as month_number
            comment = '1 for the month of the customer''s first approved transaction, then counted on without a gap.',
        metric_mom_spend_change.monthly_spend as monthly_spend
            comment = 'Approved spend of the month in dollars; 0 for a month without any.',
        metric_mom_spend_change.prior_month_spend as prior_month_spend
            comment = 'monthly_spend of the month before, in dollars; NULL for the customer''s first month.',
        metric_mom_spend_change.mom_change_pct as mom_change_pct
            comment = 'Change from prior_month_spend to monthly_spend in percent; NULL when prior_month_spend is NULL or 0.'
    )
    dimensions (
        audience_memberships.customer_id as customer_id
            with synonyms = ('customer number', 'client')
            comment = 'Customer: Natural key of the customer, as the source delivers it, for example CUST00000001.',
        audience_memberships.as_of_date as as_of_date
            with synonyms = ('date', 'date of the audience')
            comment = 'As of: Date for which the audience was decided.',
        audience_memberships.campaign as campaign
            with synonyms = ('campaign name')
            comment = 'Campaign: Name of the campaign, as in its exposure.',
        audience_memberships.status as status
            with synonyms = ('decision', 'end')
            comment = 'Status: What was decided, suppressed, capped, outranked, over_limit, held_out or exported.',
        audience_memberships.split_group as split_group
            with synonyms = ('treated or control')
            comment = 'Group: Group that the hash of campaign, salt and customer_id gives, the same on every date: treated, or control, which is held out.',
        campaign_results.campaign as campaign
            with synonyms = ('campaign name')
            comment = 'Campaign: Name of the campaign, as in its exposure.',
        campaign_results.wave_date as wave_date
            with synonyms = ('wave', 'date of the wave')
            comment = 'Wave: Date of the audience that the customers entered: the entrants of one date are a wave of the campaign.',
        campaign_results.horizon_days as horizon_days
            with synonyms = ('horizon', 'window', 'days after')
            comment = 'Horizon: Days looked at after the wave, and as many before it.',
        campaign_results.is_significant as is_significant
            with synonyms = ('significance')
            comment = 'Significant: TRUE when the 95 % interval of the lift is on one side of 0; NULL where a group has fewer than two customers.',
        customer_360_history.as_of_date as as_of_date
            with synonyms = ('date', 'business day')
            comment = 'As of: Last business day that counts (America/New_York); the same on every row that a run writes.',
        customer_360_history.customer_id as customer_id
            with synonyms = ('customer number', 'client')
            comment = 'Customer: Natural key of the customer, as the source delivers it, for example CUST00000001.',
        customer_360_history.customer_segment as customer_segment
            with synonyms = ('segment', 'segment on the date')
            comment = 'Segment: First that holds: High-Value Travelers (avg_monthly_spend >= 5000 and travel_spend_pct >= 25); Declining (spend_change_pct <= -30 and spend_prior_90_days >= 2000); New & Growing (tenure_months <= 6 and either spend_change_pct >= 50, or spend_prior_90_days = 0 and spend_last_90_days > 0); Budget-Conscious (avg_monthly_spend < 1500 and necessities_spend_pct >= 60); else Stable Mid-Spenders. NULL before the first approved transaction.',
        customer_360_history.card_type as card_type
            with synonyms = ('card', 'kind of card')
            comment = 'Card: Kind of card, Standard or Premium; versioned: the card that the customer had at the time. NULL when not delivered.',
        customer_360_history.recency_status as recency_status
            with synonyms = ('activity status', 'recency')
            comment = 'Recency: From days_since_last_transaction: to 30 Active (30 days), to 60 Recent (60 days), to 90 At Risk (90 days); else, or without a transaction, Inactive (90+ days).',
        customer_360_history.spending_profile as spending_profile
            with synonyms = ('category preference', 'travel or necessities')
            comment = 'Spending profile: Travel-Focused with travel_spend_pct >= 25, else Necessity-Focused with necessities_spend_pct >= 60, else Balanced.',
        customer_360_history.spending_consistency as spending_consistency
            with synonyms = ('consistency', 'variability')
            comment = 'Spending consistency: From transaction_value_stddev: below 50 Consistent, below 200 Moderate, from 200 Variable; NULL below two transactions.',
        customer_360_profile.customer_id as customer_id
            with synonyms = ('customer number', 'client')
            comment = 'Customer: Natural key of the customer, as the source delivers it, for example CUST00000001.',
        customer_360_profile.as_of_date as as_of_date
            with synonyms = ('date', 'business day')
            comment = 'As of: Last business day that counts (America/New_York); the same on every row that a run writes.',
        customer_360_profile.customer_segment as customer_segment
            with synonyms = ('segment', 'behavioural segment', 'customer group')
            comment = 'Segment: First that holds: High-Value Travelers (avg_monthly_spend >= 5000 and travel_spend_pct >= 25); Declining (spend_change_pct <= -30 and spend_prior_90_days >= 2000); New & Growing (tenure_months <= 6 and either spend_change_pct >= 50, or spend_prior_90_days = 0 and spend_last_90_days > 0); Budget-Conscious (avg_monthly_spend < 1500 and necessities_spend_pct >= 60); else Stable Mid-Spenders. NULL before the first approved transaction.',
        customer_360_profile.state as state
            with synonyms = ('region', 'state of residence')
            comment = 'State: State of residence, as the source has it now; NULL when not delivered.',
        customer_360_profile.city as city
            with synonyms = ('town')
            comment = 'City: City of residence, as the source has it now; NULL when not delivered.',
        customer_360_profile.employment_status as employment_status
            with synonyms = ('employment', 'occupation')
            comment = 'Employment: Employment status, as the source has it now; NULL when not delivered.',
        customer_360_profile.card_type as card_type
            with synonyms = ('card', 'kind of card')
            comment = 'Card: Kind of card, Standard or Premium; versioned: the card that the customer had at the time. NULL when not delivered.',
        customer_360_profile.recency_status as recency_status
            with synonyms = ('activity status', 'recency')
            comment = 'Recency: From days_since_last_transaction: to 30 Active (30 days), to 60 Recent (60 days), to 90 At Risk (90 days); else, or without a transaction, Inactive (90+ days).',
        customer_360_profile.spending_profile as spending_profile
            with synonyms = ('category preference', 'travel or necessities')
            comment = 'Spending profile: Travel-Focused with travel_spend_pct >= 25, else Necessity-Focused with necessities_spend_pct >= 60, else Balanced.',
        customer_360_profile.spending_consistency as spending_consistency
            with synonyms = ('consistency', 'variability')
            comment = 'Spending consistency: From transaction_value_stddev: below 50 Consistent, below 200 Moderate, from 200 Variable; NULL below two transactions.',
        customer_360_profile.marketing_opt_in as marketing_opt_in
            with synonyms = ('consent', 'opt-in')
            comment = 'Marketing opt-in: TRUE when the customer agreed to marketing, as the source has it now; NULL when not delivered.',
        customer_360_profile.eligible_for_retention_campaign as eligible_for_retention_campaign
            with synonyms = ('retention eligible')
            comment = 'Eligible for retention: TRUE when customer_segment is Declining.',
        customer_360_profile.eligible_for_onboarding_campaign as eligible_for_onboarding_campaign
            with synonyms = ('onboarding eligible')
            comment = 'Eligible for onboarding: TRUE when customer_segment is New & Growing.',
        customer_360_profile.eligible_for_premium_campaign as eligible_for_premium_campaign
            with synonyms = ('premium eligible')
            comment = 'Eligible for premium: TRUE when customer_segment is High-Value Travelers.',
        metric_mom_spend_change.customer_id as customer_id
            with synonyms = ('customer number', 'client')
            comment = 'Customer: Natural key of the customer, as the source delivers it, for example CUST00000001.',
        metric_mom_spend_change.month as month
            with synonyms = ('month', 'calendar month')
            comment = 'Month: First day of the calendar month.',
        metric_mom_spend_change.mom_trend_category as mom_trend_category
            with synonyms = ('trend', 'monthly trend')
            comment = 'Trend: How the customer''s spend of the month compares with the month before.'
    )
    metrics (
        audience_memberships.audience_capped non additive by (audience_memberships.as_of_date) as count(case when audience_memberships.status = 'capped' then audience_memberships.customer_id end)
            with synonyms = ('capped customers')
            comment = 'Capped, a number: Eligible customers who entered an audience too short a time ago.',
        audience_memberships.audience_eligible non additive by (audience_memberships.as_of_date) as count(audience_memberships.customer_id)
            with synonyms = ('eligible customers')
            comment = 'Eligible, a number: Customers whom the campaign''s conditions name; of several campaigns a customer counts once each.',
        audience_memberships.audience_entered non additive by (audience_memberships.as_of_date) as count(case when audience_memberships.entered then audience_memberships.customer_id end)
            with synonyms = ('entrants', 'new in the audience')
            comment = 'Entered, a number: Customers, exported or held out, who were not in the campaign''s audience before.',
        audience_memberships.audience_exported non additive by (audience_memberships.as_of_date) as count(case when audience_memberships.status = 'exported' then audience_memberships.customer_id end)
            with synonyms = ('audience size', 'exported customers')
            comment = 'Exported, a number: Customers in the campaign''s file, the audience''s size.',
        audience_memberships.audience_exported_share as 100 * cast(audience_memberships.audience_exported as double) / nullif(audience_memberships.audience_eligible, 0)
            with synonyms = ('share of eligible exported')
            comment = 'Exported share, in percent: Exported customers in percent of the eligible.',
        audience_memberships.audience_held_out non additive by (audience_memberships.as_of_date) as count(case when audience_memberships.status = 'held_out' then audience_memberships.customer_id end)
            with synonyms = ('holdout', 'control customers')
            comment = 'Held out, a number: Customers who are not written to, so that the effect can be measured.',
        audience_memberships.audience_outranked non additive by (audience_memberships.as_of_date) as count(case when audience_memberships.status = 'outranked' then audience_memberships.customer_id end)
            with synonyms = ('outranked customers')
            comment = 'Outranked, a number: Eligible customers who are in the audience of a campaign that comes first.',
        audience_memberships.audience_over_limit non additive by (audience_memberships.as_of_date) as count(case when audience_memberships.status = 'over_limit' then audience_memberships.customer_id end)
            with synonyms = ('customers over the limit')
            comment = 'Over the limit, a number: Eligible customers behind the last who is exported.',
        audience_memberships.audience_suppressed non additive by (audience_memberships.as_of_date) as count(case when audience_memberships.status = 'suppressed' then audience_memberships.customer_id end)
            with synonyms = ('suppressed customers')
            comment = 'Suppressed, a number: Eligible customers who must or can not be written to.',
        campaign_results.average_lift as cast(campaign_results.incremental_spend as double) / nullif(campaign_results.measured_customers, 0)
            with synonyms = ('lift', 'uplift', 'effect per customer')
            comment = 'Lift, in dollars: Incremental spend per treated customer; of one wave, its lift. Over several waves each counts by its treated customers (the ratio of the sums).',
        campaign_results.average_lift_pct as 100 * cast(campaign_results.incremental_spend as double) / nullif(campaign_results.baseline_spend, 0)
            with synonyms = ('relative lift', 'lift percentage')
            comment = 'Lift in percent, in percent: Incremental spend in percent of the baseline spend (the ratio of the sums).',
        campaign_results.baseline_spend as sum(case when campaign_results.lift is not null then campaign_results.held_out_spend_after_per_customer * campaign_results.treated_customers end)
            with synonyms = ('expected spend')
            comment = 'Baseline spend, in dollars: What the treated customers would have spent without the campaign, each as the held out of their wave on average.',
        campaign_results.held_out_spend as sum(campaign_results.held_out_spend_after)
            with synonyms = ('spend of the control group')
            comment = 'Spend of the held out, in dollars: What the held-out customers spent in the days after their wave.',
        campaign_results.held_out_spend_per_customer as cast(campaign_results.held_out_spend as double) / nullif(campaign_results.total_held_out_customers, 0)
            with synonyms = ('average spend of the control group')
            comment = 'Spend per held-out customer, in dollars: Spend of the held out divided by their number, customers without spend included.',
        campaign_results.incremental_spend as sum(campaign_results.lift * campaign_results.treated_customers)
            with synonyms = ('total effect', 'incremental revenue')
            comment = 'Incremental spend, in dollars: What the campaign made the treated customers spend, lift times treated customers, over all waves that have a lift.',
        campaign_results.measured_customers as sum(case when campaign_results.lift is not null then campaign_results.treated_customers end)
            with synonyms = ('customers with a lift')
            comment = 'Measured customers, a number: Treated customers of the waves that have a lift, which takes two customers in each group.',
        campaign_results.results as count(campaign_results.campaign)
            with synonyms = ('measured waves')
            comment = 'Results, a number: Waves whose horizon is over.',
        campaign_results.significant_results as count(case when campaign_results.is_significant then campaign_results.campaign end)
            with synonyms = ('significant waves')
            comment = 'Significant results, a number: Waves whose lift differs from 0, with 95 % confidence.',
        campaign_results.total_held_out_customers as sum(campaign_results.held_out_customers)
            with synonyms = ('held out', 'control group')
            comment = 'Held-out customers, a number: Entrants who were held out, to compare with.',
        campaign_results.total_treated_customers as sum(campaign_results.treated_customers)
            with synonyms = ('treated', 'contacted customers')
            comment = 'Treated customers, a number: Entrants whom the campaign was sent to.',
        campaign_results.treated_spend as sum(campaign_results.treated_spend_after)
            with synonyms = ('spend of contacted customers')
            comment = 'Spend of the treated, in dollars: What the treated customers spent in the days after their wave.',
        campaign_results.treated_spend_per_customer as cast(campaign_results.treated_spend as double) / nullif(campaign_results.total_treated_customers, 0)
            with synonyms = ('average spend of the treated')
            comment = 'Spend per treated customer, in dollars: Spend of the treated divided by their number, customers without spend included.',
        customer_360_history.active_customers_on_date non additive by (customer_360_history.as_of_date) as count(case when customer_360_history.recency_status = 'Active (30 days)' then customer_360_history.customer_id end)
            with synonyms = ('actives over time')
            comment = 'Active customers on a date, a number: Customers whose last transaction was at most 30 days old on the date.',
        customer_360_history.active_share_on_date as 100 * cast(customer_360_history.active_customers_on_date as double) / nullif(customer_360_history.customers_on_date, 0)
            with synonyms = ('activity rate over time')
            comment = 'Active share on a date, in percent: Active customers in percent of all customers on the date.',
        customer_360_history.average_lifetime_value_on_date as cast(customer_360_history.total_lifetime_value_on_date as double) / nullif(customer_360_history.customers_on_date, 0)
            with synonyms = ('average LTV over time')
            comment = 'Average lifetime value on a date, in dollars: Total lifetime value until the date divided by the number of customers on it.',
        customer_360_history.average_transaction_value_on_date as cast(customer_360_history.total_lifetime_value_on_date as double) / nullif(customer_360_history.transactions_on_date, 0)
            with synonyms = ('ATV over time')
            comment = 'Average transaction value on a date, in dollars: Total lifetime value divided by the number of transactions, both until the date (the ratio of the sums).',
        customer_360_history.customers_on_date non additive by (customer_360_history.as_of_date) as count(customer_360_history.customer_id)
            with synonyms = ('customer count over time')
            comment = 'Customers on a date, a number: Number of customers on the date; without a date, on the latest.',
        customer_360_history.prior_spend_on_date non additive by (customer_360_history.as_of_date) as sum(customer_360_history.spend_prior_90_days)
            with synonyms = ('prior 90-day spend over time')
            comment = 'Spend, 90 days before on a date, in dollars: Approved spend of the 90 days before those.',
        customer_360_history.recent_spend_on_date non additive by (customer_360_history.as_of_date) as sum(customer_360_history.spend_last_90_days)
            with synonyms = ('90-day spend over time')
            comment = 'Spend, last 90 days on a date, in dollars: Approved spend of the 90 days that end with the date; without a date, with the latest.',
        customer_360_history.retained_customers_on_date non additive by (customer_360_history.as_of_date) as count(case when customer_360_history.tenure_months >= 12 and customer_360_history.recency_status <> 'Inactive (90+ days)' then customer_360_history.customer_id end)
            with synonyms = ('customers still active over time')
            comment = 'Retained customers on a date, a number: Of the customers of 12 months, those with a transaction in the 90 days that end with the date.',
        customer_360_history.retention_rate_on_date as 100 * cast(customer_360_history.retained_customers_on_date as double) / nullif(customer_360_history.tenured_customers_on_date, 0)
            with synonyms = ('retention over time')
            comment = 'Retention rate on a date, in percent: Retained customers in percent of the customers of 12 months, on the date.',
        customer_360_history.spend_change_on_date as 100 * cast(customer_360_history.recent_spend_on_date - customer_360_history.prior_spend_on_date as double) / nullif(customer_360_history.prior_spend_on_date, 0)
            with synonyms = ('spending trend over time')
            comment = 'Spend change on a date, in percent: Change from the 90 days before to the 90 days that end with the date, in percent (the ratio of the sums).',
        customer_360_history.tenured_customers_on_date non additive by (customer_360_history.as_of_date) as count(case when customer_360_history.tenure_months >= 12 then customer_360_history.customer_id end)
            with synonyms = ('customers since a year over time')
            comment = 'Customers of 12 months on a date, a number: Customers whose first transaction was 12 calendar months before the date or earlier.',
        customer_360_history.total_lifetime_value_on_date non additive by (customer_360_history.as_of_date) as sum(customer_360_history.lifetime_value)
            with synonyms = ('total LTV over time')
            comment = 'Total lifetime value on a date, in dollars: What all customers had spent until the date; without a date, until the latest.',
        customer_360_history.transactions_on_date non additive by (customer_360_history.as_of_date) as sum(customer_360_history.total_transactions)
            with synonyms = ('transaction count over time')
            comment = 'Transactions on a date, a number: Number of approved transactions until the date; without a date, until the latest.',
        customer_360_profile.active_customers as count(case when customer_360_profile.recency_status = 'Active (30 days)' then customer_360_profile.customer_id end)
            with synonyms = ('actives')
            comment = 'Active customers, a number: Customers whose last transaction is at most 30 days old (recency_status Active).',
        customer_360_profile.active_share as 100 * cast(customer_360_profile.active_customers as double) / nullif(customer_360_profile.customers, 0)
            with synonyms = ('share of active customers', 'activity rate')
            comment = 'Active share, in percent: Active customers in percent of all customers.',
        customer_360_profile.average_days_since_last_transaction as avg(cast(customer_360_profile.days_since_last_transaction as double))
            with synonyms = ('average recency')
            comment = 'Days since last transaction, in days: Mean number of days from the last transaction to the published date, of the customers who have one.',
        customer_360_profile.average_lifetime_value as cast(customer_360_profile.total_lifetime_value as double) / nullif(customer_360_profile.customers, 0)
            with synonyms = ('average LTV', 'mean lifetime value')
            comment = 'Average lifetime value, in dollars: Total lifetime value divided by the number of customers, those without transactions included.',
        customer_360_profile.average_monthly_spend as cast(customer_360_profile.monthly_average_of_recent_spend as double) / nullif(customer_360_profile.customers, 0)
            with synonyms = ('monthly spend per customer')
            comment = 'Average monthly spend, in dollars: Monthly spend of the last 90 days divided by the number of customers, those without spend included.',
        customer_360_profile.average_transaction_value as cast(customer_360_profile.total_lifetime_value as double) / nullif(customer_360_profile.transactions, 0)
            with synonyms = ('ATV', 'average purchase', 'average ticket')
            comment = 'Average transaction value, in dollars: Total lifetime value divided by the number of transactions: the ratio of the sums, in which each transaction counts once. Not the mean of the customers'' own averages, in which each customer counts once.',
        customer_360_profile.customers as count(customer_360_profile.customer_id)
            with synonyms = ('customer count', 'number of customers', 'clients')
            comment = 'Customers, a number: Number of customers, with or without transactions.',
        customer_360_profile.declining_customers as count(case when customer_360_profile.customer_segment = 'Declining' then customer_360_profile.customer_id end)
            with synonyms = ('decliners')
            comment = 'Declining customers, a number: Customers of segment Declining.',
        customer_360_profile.declining_share as 100 * cast(customer_360_profile.declining_customers as double) / nullif(customer_360_profile.customers, 0)
            with synonyms = ('share of declining customers')
            comment = 'Declining share, in percent: Customers of segment Declining in percent of all customers.',
        customer_360_profile.inactive_customers as count(case when customer_360_profile.recency_status = 'Inactive (90+ days)' then customer_360_profile.customer_id end)
            with synonyms = ('lapsed customers')
            comment = 'Inactive customers, a number: Customers without a transaction in the last 90 days, or without any (recency_status Inactive).',
        customer_360_profile.inactive_share as 100 * cast(customer_360_profile.inactive_customers as double) / nullif(customer_360_profile.customers, 0)
            with synonyms = ('share of inactive customers', 'lapsed share')
            comment = 'Inactive share, in percent: Inactive customers in percent of all customers.',
        customer_360_profile.monthly_average_of_recent_spend as sum(customer_360_profile.avg_monthly_spend)
            with synonyms = ('spend a month', 'monthly run rate')
            comment = 'Monthly spend, in dollars: What all customers spend a month, on average over the last 90 days.',
        customer_360_profile.prior_spend as sum(customer_360_profile.spend_prior_90_days)
            with synonyms = ('spend of the prior 90 days', 'previous spend')
            comment = 'Spend, 90 days before, in dollars: Approved spend of the 90 days before the last 90 days.',
        customer_360_profile.recent_spend as sum(customer_360_profile.spend_last_90_days)
            with synonyms = ('spend of the last 90 days', 'current spend')
            comment = 'Spend, last 90 days, in dollars: Approved spend of the 90 days that end with the published date.',
        customer_360_profile.retained_customers as count(case when customer_360_profile.tenure_months >= 12 and customer_360_profile.recency_status <> 'Inactive (90+ days)' then customer_360_profile.customer_id end)
            with synonyms = ('customers still active after a year')
            comment = 'Retained customers, a number: Of the customers of 12 months, those with a transaction in the last 90 days (recency_status other than Inactive).',
        customer_360_profile.retention_rate as 100 * cast(customer_360_profile.retained_customers as double) / nullif(customer_360_profile.tenured_customers, 0)
            with synonyms = ('retention', '12-month retention')
            comment = 'Retention rate, in percent: Retained customers in percent of the customers of 12 months: who is still there a year or more after the first transaction. NULL where nobody has been there for 12 months.',
        customer_360_profile.spend_change as 100 * cast(customer_360_profile.recent_spend - customer_360_profile.prior_spend as double) / nullif(customer_360_profile.prior_spend, 0)
            with synonyms = ('spending trend', 'change in spend')
            comment = 'Spend change, in percent: Change of all customers'' spend from the 90 days before to the last 90 days, in percent of the former: the ratio of the sums, not the mean of the customers'' own changes, which a customer who spent one dollar before dominates.',
        customer_360_profile.tenured_customers as count(case when customer_360_profile.tenure_months >= 12 then customer_360_profile.customer_id end)
            with synonyms = ('customers since a year')
            comment = 'Customers of 12 months, a number: Customers whose first transaction was 12 calendar months before the published date or earlier.',
        customer_360_profile.total_lifetime_value as sum(customer_360_profile.lifetime_value)
            with synonyms = ('total LTV', 'LTV', 'total spend', 'lifetime spend')
            comment = 'Total lifetime value, in dollars: What all customers have spent, in approved transactions until the published date.',
        customer_360_profile.transactions as sum(customer_360_profile.total_transactions)
            with synonyms = ('transaction count', 'purchases')
            comment = 'Transactions, a number: Number of approved transactions until the published date.',
        metric_mom_spend_change.compared_months as count(case when metric_mom_spend_change.mom_trend_category <> 'First Month' then metric_mom_spend_change.customer_id end)
            with synonyms = ('customer months')
            comment = 'Compared months, a number: Customers'' months that have a month before them.',
        metric_mom_spend_change.compared_spend as sum(case when metric_mom_spend_change.prior_month_spend is not null then metric_mom_spend_change.monthly_spend end)
            with synonyms = ('spend of existing customers')
            comment = 'Compared spend, in dollars: Approved spend of customers'' months that have a month before them, so without each customer''s first.',
        metric_mom_spend_change.growing_months as count(case when metric_mom_spend_change.mom_trend_category in ('Growth', 'High Growth') then metric_mom_spend_change.customer_id end)
            with synonyms = ('months of growth')
            comment = 'Growing months, a number: Customers'' months with more spend than the month before.',
        metric_mom_spend_change.growing_share as 100 * cast(metric_mom_spend_change.growing_months as double) / nullif(metric_mom_spend_change.compared_months, 0)
            with synonyms = ('share of growing customers')
            comment = 'Growing share, in percent: Growing months in percent of the compared months; of one month, the share of customers who spent more.',
        metric_mom_spend_change.month_spend_change as 100 * cast(metric_mom_spend_change.compared_spend - metric_mom_spend_change.spend_of_month_before as double) / nullif(metric_mom_spend_change.spend_of_month_before, 0)
            with synonyms = ('MoM', 'MoM change', 'month over month spend change')
            comment = 'Month-over-month change, in percent: Change from the month before in percent, of the customers who had one: the ratio of the sums, not the mean of the customers'' own changes.',
        metric_mom_spend_change.spend as sum(metric_mom_spend_change.monthly_spend)
            with synonyms = ('monthly spend', 'turnover')
            comment = 'Spend, in dollars: Approved spend of complete months.',
        metric_mom_spend_change.spend_of_month_before as sum(metric_mom_spend_change.prior_month_spend)
            with synonyms = ('prior month spend')
            comment = 'Spend of the month before, in dollars: What the same customers spent in the month before.',
        metric_mom_spend_change.spending_customers as count(distinct case when metric_mom_spend_change.monthly_spend > 0 then metric_mom_spend_change.customer_id end)
            with synonyms = ('monthly active customers')
            comment = 'Spending customers, a number: Customers with spend; over several months each counts once.'
    )
    comment = 'Customers, their spend by month and by date, and campaigns: audiences and results. Without personal data'
    ai_sql_generation 'Answer with a metric where there is one; never average a column that is an average or a percentage itself. Money is in dollars, percentages are 0 to 100. Count dates from as_of_date, never from the current date: it is the last business day that the data has. Figures of campaign_results are of one horizon: group by horizon_days, or filter it to one value. Figures of customer_360_history and audience_memberships are of one date: the latest, unless dates are asked for. End the order of customers with customer_id, and put NULL last.'
    ai_verified_queries (
        top_customers_by_lifetime_value as (
            question 'Who are the top 100 customers by lifetime value?'
            sql '
                select customer_id, customer_segment, lifetime_value, total_transactions, avg_spend_per_day
                from customer_360_profile
                order by lifetime_value desc, customer_id
                limit 100
            '
        ),
        lifetime_value_by_segment as (
            question 'What is the average and the total lifetime value of each segment?'
            sql '
                select
                    customer_segment,
                    count(*) as customer_count,
                    avg(lifetime_value) as avg_ltv,
                    sum(lifetime_value) as total_segment_value
                from customer_360_profile
                group by customer_segment
                order by total_segment_value desc
            '
        ),
        customers_by_lifetime_value_tier as (
            question 'How are customers distributed over tiers of lifetime value?'
            sql '
                select
                    case
                        when lifetime_value < 10000 then ''<$10K''
                        when lifetime_value < 50000 then ''$10K-$50K''
                        when lifetime_value < 100000 then ''$50K-$100K''
                        else ''$100K+''
                    end as ltv_tier,
                    count(*) as customer_count
                from customer_360_profile
                group by ltv_tier
            '
        ),
        spend_change_of_latest_month_by_segment as (
            question 'How did spend change in the latest month, by segment?'
            sql '
                select
                    customer_360_profile.customer_segment,
                    100 * sum(metric_mom_spend_change.monthly_spend - metric_mom_spend_change.prior_month_spend)
                    / nullif(sum(metric_mom_spend_change.prior_month_spend), 0) as avg_mom_change
                from metric_mom_spend_change
                inner join customer_360_profile on metric_mom_spend_change.customer_id = customer_360_profile.customer_id
                where metric_mom_spend_change.month = (select max(month) from metric_mom_spend_change)
                group by customer_360_profile.customer_segment
            '
        ),
        customers_with_biggest_decline as (
            question 'Which customers'' spend fell most in the last complete month?'
            sql '
                select customer_id, month, monthly_spend, prior_month_spend, mom_change_pct, mom_trend_category
                from metric_mom_spend_change
                where month = (select max(month) from metric_mom_spend_change) and mom_change_pct < -30
                order by mom_change_pct, customer_id
                limit 100
            '
        ),
        monthly_spend_of_a_customer as (
            question 'How did the spend of customer CUST00000001 develop by month?'
            sql '
                select month, monthly_spend, prior_month_spend, mom_change_pct, mom_trend_category
                from metric_mom_spend_change
                where customer_id = ''CUST00000001''
                order by month
            '
        ),
        top_customers_by_average_transaction_value as (
            question 'Which customers have the highest average transaction value?'
            sql '
                select customer_id, customer_segment, avg_transaction_value, transaction_value_stddev, spending_consistency
                from customer_360_profile
                order by avg_transaction_value desc nulls last, customer_id
                limit 100
            '
        ),
        average_transaction_value_by_segment_and_consistency as (
            question 'What is the average transaction value by segment and spending consistency?'
            sql '
                select
                    customer_segment,
                    spending_consistency,
                    count(*) as customer_count,
                    sum(lifetime_value) / nullif(sum(total_transactions), 0) as avg_atv
                from customer_360_profile
                group by customer_segment, spending_consistency
                order by avg_atv desc nulls last
            '
        ),
        segment_summary as (
            question 'Give me a summary of the segments.'
            sql '
                select
                    customer_segment,
                    count(*) as customer_count,
                    avg(lifetime_value) as avg_ltv,
                    sum(lifetime_value) / nullif(sum(total_transactions), 0) as avg_atv,
                    100 * sum(spend_last_90_days - spend_prior_90_days) / nullif(sum(spend_prior_90_days), 0) as avg_mom_change
                from customer_360_profile
                group by customer_segment
                order by avg_ltv desc
            '
        ),
        high_value_travelers as (
            question 'Who are the most valuable high-value travelers?'
            sql '
                select
                    customer_id,
                    lifetime_value,
                    avg_transaction_value,
                    travel_spend_pct,
                    days_since_last_transaction,
                    recency_status
                from customer_360_profile
                where customer_segment = ''High-Value Travelers''
                order by lifetime_value desc, customer_id
                limit 100
            '
        ),
        declining_or_inactive_customers as (
            question 'Which customers are declining or inactive?'
            sql '
                select
                    customer_id,
                    customer_segment,
                    lifetime_value,
                    spend_change_pct,
                    days_since_last_transaction,
                    recency_status
                from customer_360_profile
                where customer_segment = ''Declining'' or recency_status = ''Inactive (90+ days)''
                order by spend_change_pct asc nulls last, customer_id
            '
        ),
        customers_for_the_retention_campaign as (
            question 'Which declining customers with a high lifetime value would a retention campaign target?'
            sql '
                select customer_id, lifetime_value, spend_change_pct
                from customer_360_profile
                where eligible_for_retention_campaign = true and lifetime_value >= 50000
                order by spend_change_pct asc nulls last, customer_id
                limit 1000
            '
        ),
        customers_for_the_onboarding_campaign as (
            question 'Which new and growing customers would an onboarding campaign target?'
            sql '
                select customer_id, tenure_months, spend_change_pct, avg_monthly_spend
                from customer_360_profile
                where eligible_for_onboarding_campaign = true
                order by spend_change_pct desc nulls last, customer_id
                limit 2000
            '
        ),
        customers_for_the_premium_campaign as (
            question 'Which high-value travelers would a premium campaign target?'
            sql '
                select customer_id, lifetime_value, travel_spend_pct
                from customer_360_profile
                where eligible_for_premium_campaign = true
                order by lifetime_value desc, customer_id
                limit 5000
            '
        ),
        key_figures as (
            question 'What are our key figures?'
            sql '
                select
                    count(*) as total_customers,
                    sum(lifetime_value) as total_ltv,
                    avg(lifetime_value) as avg_ltv,
                    sum(lifetime_value) / nullif(sum(total_transactions), 0) as avg_atv
                from customer_360_profile
            '
        ),
        customers_by_segment as (
            question 'How many customers are in each segment, with which average lifetime value?'
            sql '
                select customer_segment, count(*) as customers, avg(lifetime_value) as avg_ltv
                from customer_360_profile
                group by customer_segment
            '
        ),
        customers_who_changed_segment as (
            question 'Which customers changed their segment on the latest date?'
            sql '
                with dated as (
                    select
                        customer_id,
                        as_of_date,
                        customer_segment,
                        lag(customer_segment) over (partition by customer_id order by as_of_date) as prior_segment
                    from customer_360_history
                )

                select customer_id, prior_segment, customer_segment
                from dated
                where as_of_date = (select max(as_of_date) from customer_360_history) and customer_segment <> prior_segment
                order by customer_id
            '
        )
    )
    copy grants;

-- Who may select from a semantic view needs no privilege on the tables below it.
use role securityadmin;

grant select on semantic view {{ deployment }}.{{ readable }}.customer_360 to role {{ deployment }}_reader;
