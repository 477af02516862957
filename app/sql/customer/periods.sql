with dates as (

    select
        as_of_date,
        customer_segment,
        recency_status
    from marts.customer_360_history
    where customer_id = ?

),

states as (

    select
        'segment' as kind,
        as_of_date,
        customer_segment as state
    from dates
    union all
    select
        'recency' as kind,
        as_of_date,
        recency_status as state
    from dates

),

marked as (

    select
        kind,
        as_of_date,
        state,
        case
            when state is not distinct from lag(state) over (partition by kind order by as_of_date) then 0
            else 1
        end as begins
    from states

),

numbered as (

    select
        kind,
        as_of_date,
        state,
        sum(begins) over (
            partition by kind
            order by as_of_date
            rows between unbounded preceding and current row
        ) as period
    from marked

)

select
    kind,
    state,
    min(as_of_date) as from_date,
    max(as_of_date) as until_date
from numbered
group by
    kind,
    state,
    period
order by
    kind,
    from_date desc
