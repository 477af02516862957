{#- What moved: the size of each campaign's audience of this date, the share of those who entered it, in percent, and
    the average lifetime value, each beside its median over the campaign's audiences before, as far back as the var audience_trailing says. -#}
{% set as_of = "cast('" ~ as_of_date ~ "' as date)" -%}

with memberships as (

    select * from ops.audience_memberships
    where as_of_date <= {{ as_of }}

),

history as (

    select
        as_of_date,
        customer_id,
        lifetime_value
    from marts.customer_360_history
    where as_of_date < {{ as_of }}

),

profiles as (

    select
        {{ as_of }} as as_of_date,
        customer_id,
        lifetime_value
    from marts.customer_360_profile

),

lifetime_values as (

    select * from history
    union all
    select * from profiles

),

-- An audience that was not approved went to nobody.
numbered as (

    select
        campaign,
        as_of_date,
        row_number() over (partition by campaign order by as_of_date desc) as number_before
    from memberships
    where as_of_date < {{ as_of }}
    group by
        campaign,
        as_of_date
    having count(case when reason = 'not approved' then 1 end) = 0

),

dates as (

    select
        campaign,
        as_of_date
    from numbered
    where number_before <= {{ vars.audience_trailing }}
    union all
    select
        campaign,
        {{ as_of }} as as_of_date
    from numbered
    group by campaign

),

audiences as (

    select
        dates.campaign,
        dates.as_of_date,
        count(memberships.customer_id) as size,
        100.0 * count(case when memberships.entered then 1 end)
        / nullif(count(memberships.customer_id), 0) as entered_pct,
        avg(lifetime_values.lifetime_value) as average_value
    from dates
    left join memberships
        on
            dates.campaign = memberships.campaign
            and dates.as_of_date = memberships.as_of_date
            and memberships.status = 'exported'
    left join lifetime_values
        on
            memberships.as_of_date = lifetime_values.as_of_date
            and memberships.customer_id = lifetime_values.customer_id
    group by
        dates.campaign,
        dates.as_of_date

),

medians as (

    select
        campaign,
        count(*) as audiences_before,
        median(size) as size,
        median(entered_pct) as entered_pct,
        median(average_value) as average_value
    from audiences
    where as_of_date < {{ as_of }}
    group by campaign

),

final as (

    select
        medians.campaign,
        medians.audiences_before,
        audiences.size,
        audiences.entered_pct,
        audiences.average_value,
        medians.size as median_size,
        medians.entered_pct as median_entered_pct,
        medians.average_value as median_average_value
    from medians
    inner join audiences
        on
            medians.campaign = audiences.campaign
            and audiences.as_of_date = {{ as_of }}

)

select * from final
order by campaign
