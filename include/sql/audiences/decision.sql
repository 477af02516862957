{#- Who is in the audience of each campaign, and why the others are not: one row per campaign and eligible customer.
    eligible, suppressed, capped, one campaign per customer, ranked within the limit, held out or exported.
    What was decided for earlier dates is read, nothing of this one, so that a date is decided the same again; of the suppressions
    those that were recorded when it was first decided. -#}
{% import 'audiences/addresses.jinja' as addresses with context -%}
{% import 'audiences/members.jinja' as members with context -%}
{% set as_of = "cast('" ~ as_of_date ~ "' as date)" -%}

with profiles as (

    select
        *,
        {{ addresses.normalised_address('email') }} as address
    from marts.customer_360_profile

),

suppressions as (

    {{ members.suppressions(as_of, as_of, "\n        and recorded_at <= cast('" ~ decided_at ~ "' as timestamp)") }}

),

memberships as (

    select * from ops.audience_memberships
    where as_of_date < {{ as_of }}

),

contactable as (

    select
        *,
        {{ addresses.address_problem('address') }} as address_problem,
        {{ addresses.address_hash('address') }} as email_hash
    from profiles

),

eligible as (
    {% for campaign in campaigns %}
    select
        '{{ campaign.name }}' as campaign,
        {{ campaign.priority }} as priority,
        {{ campaign.limit }} as audience_limit,
        {{ campaign.cap_days }} as cap_days,
        contactable.customer_id,
        contactable.address,
        contactable.email_hash,
        contactable.address_problem,
        coalesce(contactable.{{ campaign.consent_column }}, false) as consent,
        coalesce(contactable.ads_opt_in, false) as ads_consent,
        contactable.account_closed_date,
        contactable.deceased_date,
        case
            when substr(md5('{{ campaign.name }}|{{ campaign.holdout_salt | replace("'", "''") }}|' || contactable.customer_id), 1, 8)
                < '{{ campaign.holdout_threshold }}'
                then 'control'
            else 'treated'
        end as split_group,
        row_number() over (order by {{ campaign.order_by }}) as place
    from contactable
    where
        contactable.customer_id in (
            select chosen.customer_id
            from (
                {% include campaign.template %}
            ) as chosen
        )
    {{- "\n    union all" if not loop.last }}
    {%- endfor %}

),

screened as (

    select
        *,
        case
            when deceased_date <= {{ as_of }} then 'deceased'
            when account_closed_date <= {{ as_of }} then 'account closed'
            when not consent then 'no consent'
            when {{ members.is_suppressed('customer_id', 'email_hash') }} then 'suppression list'
            else address_problem
        end as problem
    from eligible

),

unique_addresses as (

    select
        campaign,
        address,
        min(place) as first_place
    from screened
    where problem is null
    group by
        campaign,
        address

),

suppressed as (

    select
        screened.*,
        case
            when screened.problem is null and screened.place > unique_addresses.first_place then 'address twice'
            else screened.problem
        end as suppressed_by
    from screened
    left join unique_addresses
        on
            screened.campaign = unique_addresses.campaign
            and screened.address = unique_addresses.address

),

-- An audience that was not approved went to nobody, so the one before it is the campaign's previous.
previous_dates as (

    select
        campaign,
        max(as_of_date) as as_of_date
    from (
        select
            campaign,
            as_of_date
        from memberships
        group by
            campaign,
            as_of_date
        having count(case when reason = 'not approved' then 1 end) = 0
    ) as released
    group by campaign

),

-- Of the held out as of the exported: both groups stay and are capped by the same rules.
previous as (

    select
        memberships.campaign,
        memberships.customer_id,
        memberships.entered_on
    from memberships
    inner join previous_dates
        on
            memberships.campaign = previous_dates.campaign
            and memberships.as_of_date = previous_dates.as_of_date
    where memberships.status in ('exported', 'held_out')

),

entries as (

    select
        customer_id,
        campaign,
        as_of_date,
        row_number() over (partition by customer_id order by as_of_date desc, campaign asc) as number_of_customer
    from memberships
    where
        entered
        and status in ('exported', 'held_out')

),

contacted as (

    select
        suppressed.*,
        previous.customer_id is not null as stays,
        previous.entered_on,
        case
            when
                previous.customer_id is null
                and datediff('day', entries.as_of_date, {{ as_of }}) < suppressed.cap_days
                then entries.campaign || ' entered on ' || cast(entries.as_of_date as varchar)
        end as capped_by
    from suppressed
    left join previous
        on
            suppressed.campaign = previous.campaign
            and suppressed.customer_id = previous.customer_id
    left join entries
        on
            suppressed.customer_id = entries.customer_id
            and entries.number_of_customer = 1

),

first_of_customer as (

    select
        customer_id,
        campaign,
        row_number() over (partition by customer_id order by priority asc, campaign asc) as number_of_customer
    from contacted
    where
        suppressed_by is null
        and capped_by is null

),

chosen as (

    select
        contacted.*,
        first_of_customer.campaign as chosen_campaign
    from contacted
    left join first_of_customer
        on
            contacted.customer_id = first_of_customer.customer_id
            and first_of_customer.number_of_customer = 1

),

ranked as (

    select
        campaign,
        customer_id,
        split_group,
        audience_limit,
        row_number() over (partition by campaign order by place) as rank,
        sum(case when split_group = 'treated' then 1 else 0 end) over (
            partition by campaign
            order by place
            rows between unbounded preceding and current row
        ) as number_treated
    from chosen
    where
        suppressed_by is null
        and capped_by is null
        and campaign = chosen_campaign

),

last_exported as (

    select
        campaign,
        max(rank) as rank
    from ranked
    where
        split_group = 'treated'
        and number_treated <= audience_limit
    group by campaign

),

placed as (

    select
        ranked.campaign,
        ranked.customer_id,
        ranked.rank,
        case
            when ranked.rank > coalesce(last_exported.rank, 0) then 'over_limit'
            when ranked.split_group = 'control' then 'held_out'
            else 'exported'
        end as status
    from ranked
    left join last_exported on ranked.campaign = last_exported.campaign

),

final as (

    select
        chosen.campaign,
        {{ as_of }} as as_of_date,
        chosen.customer_id,
        case
            when chosen.suppressed_by is not null then 'suppressed'
            when chosen.capped_by is not null then 'capped'
            when chosen.campaign <> chosen.chosen_campaign then 'outranked'
            else placed.status
        end as status,
        case
            when chosen.suppressed_by is not null then chosen.suppressed_by
            when chosen.capped_by is not null then chosen.capped_by
            when chosen.campaign <> chosen.chosen_campaign then chosen.chosen_campaign
        end as reason,
        chosen.split_group,
        cast(placed.rank as integer) as rank,
        coalesce(placed.status in ('exported', 'held_out'), false) and not chosen.stays as entered,
        case
            when placed.status in ('exported', 'held_out') and chosen.stays then chosen.entered_on
            when placed.status in ('exported', 'held_out') then {{ as_of }}
        end as entered_on,
        chosen.ads_consent,
        {{ dag_run_literal }} as dag_run_id,
        cast('{{ decided_at }}' as timestamp) as decided_at
    from chosen
    left join placed
        on
            chosen.campaign = placed.campaign
            and chosen.customer_id = placed.customer_id

)

select * from final
