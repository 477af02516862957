{% set first_day = "cast('" ~ var('calendar_first_day') ~ "' as date)" %}
{% set last_day = "cast('" ~ var('calendar_last_day') ~ "' as date)" %}

with days as (

    select date_day
    from (
        {{ dbt.date_spine('day', first_day, dbt.dateadd('day', 1, last_day)) }}
    )

),

final as (

    select
        cast(date_day as date) as date_day,
        cast({{ dbt.date_trunc('month', 'date_day') }} as date) as month,
        {{ dbt.last_day('date_day', 'month') }} as month_end,
        cast(extract(year from date_day) as integer) as year_number,
        cast(extract(quarter from date_day) as integer) as quarter_number,
        cast(extract(month from date_day) as integer) as month_of_year
    from days

)

select * from final
