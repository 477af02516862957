with days as (

    select date_day
    from (
        {{ dbt.date_spine('day', "cast('1900-01-01' as date)", "cast('2200-01-01' as date)") }}
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
