{#- Whether the audiences of a date are what their campaigns say. Consent, list and addresses are asked of the profile again, limits and
    groups of the memberships themselves. -#}
{% import 'validations/checks.jinja' as validation with context -%}
{% import 'audiences/addresses.jinja' as addresses with context -%}
{% import 'audiences/members.jinja' as members with context -%}
{% set as_of = validation.as_of -%}
{% set checks = {
    'audiences_known': 'campaigns of the project, the six statuses, a reason exactly with suppressed, capped and outranked',
    'audiences_of_eligible_only': 'customers who are eligible for the campaign, each once',
    'audiences_hold_nobody_twice': 'a customer exported or held out by one campaign only',
    'audiences_groups_kept_apart': 'nobody of the control group exported, nobody of the treated held out',
    'audiences_consented': 'everybody exported or held out consents, has an open account, and lives',
    'audiences_without_suppressed': 'nobody exported or held out is on the suppression list of the decision',
    'audiences_addresses_valid': 'everybody exported or held out has an address that may be written to, their own',
    'audiences_within_ranks': 'exported and held out are ranked before all that are over the limit, nobody else is ranked',
    'audiences_caps_kept': 'nobody enters within cap_days of having entered another audience',
    'audiences_entries_dated': 'exported and held out have the date on which they entered, this one exactly when they enter now',
} -%}

with memberships as (

    select * from ops.audience_memberships
    where as_of_date = {{ as_of }}

),

earlier as (

    select
        customer_id,
        max(as_of_date) as as_of_date
    from ops.audience_memberships
    where
        as_of_date < {{ as_of }}
        and entered
        and status in ('exported', 'held_out')
    group by customer_id

),

profiles as (

    select
        *,
        {{ addresses.normalised_address('email') }} as address
    from marts.customer_360_profile

),

suppressions as (

    {{ members.suppressions(
        as_of,
        as_of,
        "\n        and recorded_at <= (select min(memberships.decided_at) from memberships)"
    ) }}

),

eligible as (
    {% for campaign in campaigns %}
    select
        '{{ campaign.name }}' as campaign,
        {{ campaign.limit }} as audience_limit,
        {{ campaign.cap_days }} as cap_days,
        profiles.customer_id,
        coalesce(profiles.{{ campaign.consent_column }}, false) as consent
    from profiles
    where
        profiles.customer_id in (
            select chosen.customer_id
            from (
                {% include campaign.template %}
            ) as chosen
        )
    {{- "\n    union all" if not loop.last }}
    {%- endfor %}

),

by_status as (

    select
        campaign,
        count(*) as customers,
        {%- for status in ('suppressed', 'capped', 'outranked', 'held_out', 'over_limit', 'exported') %}
        count(case when status = '{{ status }}' then 1 end) as {{ status }},
        {%- endfor %}
        count(case when status = 'over_limit' and split_group = 'treated' then 1 end) as treated_over_limit,
        count(case when reason = 'after decision' then 1 end) as after_decision,
        max(case when status = 'exported' then rank end) as last_exported,
        min(case when status = 'over_limit' then rank end) as first_over_limit
    from memberships
    group by campaign

),

of_campaign as (
    {% for campaign in campaigns %}
    select
        '{{ campaign.name }}' as campaign,
        {{ campaign.limit }} as audience_limit,
        (select count(*) from eligible where eligible.campaign = '{{ campaign.name }}') as eligible
    {{- "\n    union all" if not loop.last }}
    {%- endfor %}

),

repeated as (

    select
        campaign,
        customer_id,
        count(*) as occurrences
    from memberships
    group by
        campaign,
        customer_id

),

in_audiences as (

    select
        customer_id,
        count(*) as campaigns
    from memberships
    where status in ('exported', 'held_out')
    group by customer_id

),

same_address as (

    select
        memberships.campaign,
        profiles.address,
        count(*) as customers
    from memberships
    inner join profiles on memberships.customer_id = profiles.customer_id
    where memberships.status in ('exported', 'held_out')
    group by
        memberships.campaign,
        profiles.address

),

joined as (

    select
        memberships.*,
        memberships.status in ('exported', 'held_out') as in_audience,
        eligible.customer_id is not null as is_eligible,
        coalesce(eligible.consent, false) as consent,
        eligible.cap_days,
        repeated.occurrences,
        in_audiences.campaigns,
        earlier.as_of_date as entered_before,
        by_status.last_exported,
        same_address.customers as customers_at_address,
        profiles.account_closed_date,
        profiles.deceased_date,
        {{ addresses.address_problem('profiles.address') }} as address_problem,
        {{ members.is_suppressed('memberships.customer_id', addresses.address_hash('profiles.address')) }} as is_suppressed
    from memberships
    left join eligible
        on
            memberships.campaign = eligible.campaign
            and memberships.customer_id = eligible.customer_id
    left join repeated
        on
            memberships.campaign = repeated.campaign
            and memberships.customer_id = repeated.customer_id
    left join in_audiences on memberships.customer_id = in_audiences.customer_id
    left join earlier on memberships.customer_id = earlier.customer_id
    left join by_status on memberships.campaign = by_status.campaign
    left join profiles on memberships.customer_id = profiles.customer_id
    left join same_address
        on
            memberships.campaign = same_address.campaign
            and profiles.address = same_address.address

),

faults as (

    select
        campaign,
        customer_id,
        not coalesce(
            campaign in ({% for campaign in campaigns %}'{{ campaign.name }}'{{ ', ' if not loop.last }}{% endfor %})
            and status in ('suppressed', 'capped', 'outranked', 'held_out', 'over_limit', 'exported')
            and split_group in ('treated', 'control')
            and (reason is not null) = (status in ('suppressed', 'capped', 'outranked')),
            false
        ) as audiences_known,
        not is_eligible or occurrences > 1 as audiences_of_eligible_only,
        in_audience and campaigns > 1 as audiences_hold_nobody_twice,
        coalesce(
            (status = 'exported' and split_group <> 'treated') or (status = 'held_out' and split_group <> 'control'),
            true
        ) as audiences_groups_kept_apart,
        in_audience
        and (
            not consent
            or coalesce(account_closed_date <= {{ as_of }}, false)
            or coalesce(deceased_date <= {{ as_of }}, false)
        ) as audiences_consented,
        in_audience and is_suppressed as audiences_without_suppressed,
        in_audience and (address_problem is not null or customers_at_address > 1) as audiences_addresses_valid,
        case
            when status in ('exported', 'held_out') then coalesce(rank > last_exported, true)
            when status = 'over_limit' then coalesce(rank <= last_exported, rank is null)
            else rank is not null
        end as audiences_within_ranks,
        entered
        and coalesce(datediff('day', entered_before, {{ as_of }}) < cap_days, false) as audiences_caps_kept,
        case
            when in_audience then coalesce(entered <> (entered_on = {{ as_of }}) or entered_on > {{ as_of }}, true)
            else coalesce(entered, true) or entered_on is not null
        end as audiences_entries_dated
    from joined

),

tally as (

    {{ validation.tally('faults', checks) }}

),

final as (
    {{ validation.fault_checks('tally', checks, unit='memberships') }}
    union all
    select
        'audiences_add_up' as check_name,
        'error' as severity,
        count(case when not adds_up then 1 end) || ' of ' || count(*) || ' campaigns do not add up'
        || coalesce(', the first is ' || min(case when not adds_up then sentence end), '') as observed,
        'eligible = suppressed + capped + outranked + held out + over limit + exported, for each campaign' as expected,
        count(case when not adds_up then 1 end) = 0 as passed
    from (
        select
            of_campaign.eligible = coalesce(by_status.customers, 0)
            and of_campaign.eligible
            = coalesce(
                by_status.suppressed + by_status.capped + by_status.outranked + by_status.held_out + by_status.over_limit
                + by_status.exported,
                0
            ) as adds_up,
            of_campaign.campaign || ': ' || of_campaign.eligible || ' eligible, ' || coalesce(by_status.customers, 0)
            || ' decided on' as sentence
        from of_campaign
        left join by_status on of_campaign.campaign = by_status.campaign
    ) as sums
    union all
    select
        'audiences_limits_kept' as check_name,
        'error' as severity,
        count(case when not is_kept then 1 end) || ' of ' || count(*) || ' campaigns outside their limit'
        || coalesce(', the first is ' || min(case when not is_kept then sentence end), '') as observed,
        'no more exported than the limit, and as many as there are before anybody treated is over it' as expected,
        count(case when not is_kept then 1 end) = 0 as passed
    from (
        select
            coalesce(by_status.exported, 0) <= of_campaign.audience_limit
            and (
                coalesce(by_status.treated_over_limit, 0) = 0
                or by_status.exported + by_status.after_decision >= of_campaign.audience_limit
            ) as is_kept,
            of_campaign.campaign || ': ' || coalesce(by_status.exported, 0) || ' exported of at most '
            || of_campaign.audience_limit as sentence
        from of_campaign
        left join by_status on of_campaign.campaign = by_status.campaign
    ) as limits

)

{{ validation.results({'faults': ("campaign || ' ' || customer_id", checks)}) }}
