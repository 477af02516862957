{% macro arrivals_to_load(delivered, loaded, rejected, customers) -%}
    {#- What the load reads: 'all', when no day is as it was loaded and LOAD_ARRIVED_BEFORE does not say how far to load; 'nothing'; or a condition on ingested_at that holds for
        what arrived on the days to load. Its days are literals, by which both engines skip what arrived on others; it may hold
        for some of these too. -#}
    {%- if not execute -%}
        {{ return('all') }}
    {%- endif -%}
    {%- if load_arrived_before() -%}
        {{ return(arrived_within(run_query(ranges_of_days(days_to_load(delivered, loaded, rejected, customers))))) }}
    {%- elif loaded is none -%}
        {{ return('all') }}
    {%- endif -%}
    {%- set unchanged -%}
        select count(*)
        from {{ delivered }} as delivered
        inner join {{ loaded }} as loaded
            on
                delivered.arrival_day = loaded.arrival_day
                and delivered.row_count = loaded.row_count
                and delivered.checksum = loaded.checksum
                and delivered.loading_rules = loaded.loading_rules
    {%- endset -%}
    {%- if run_query(unchanged).columns[0].values()[0] == 0 -%}
        {{ return('all') }}
    {%- endif -%}
    {{ return(arrived_within(run_query(ranges_of_days(days_to_load(delivered, loaded, rejected, customers))))) }}
{%- endmacro %}

{% macro ranges_of_days(days) -%}
    {#- A row per range of days that follow each other: its first day and the day after its last. Each row also counts the rows
        without a day and the days beyond those that have a literal on both engines. -#}
    with to_load as (

        {{ days }}

    ),

    numbered as (

        select
            arrival_day,
            {{ dbt.datediff("cast('0001-01-01' as date)", 'arrival_day', 'day') }}
            - row_number() over (order by arrival_day) as range_number
        from to_load
        where arrival_day between cast('0001-01-02' as date) and cast('9999-12-30' as date)

    ),

    ranges as (

        select
            min(arrival_day) as first_day,
            cast({{ dbt.dateadd('day', 1, 'max(arrival_day)') }} as date) as next_day
        from numbered
        group by range_number

    ),

    others as (

        select
            sum(case when arrival_day = cast('0001-01-01' as date) then 1 else 0 end) as undated,
            sum(
                case
                    when arrival_day < cast('0001-01-01' as date) or arrival_day > cast('9999-12-30' as date) then 1
                    else 0
                end
            ) as beyond
        from to_load

    )

    select
        ranges.first_day,
        ranges.next_day,
        others.undated,
        others.beyond
    from others
    left join ranges on 1 = 1
    order by ranges.first_day
{%- endmacro %}

{% macro arrived_within(ranges) -%}
    {%- set conditions = [] -%}
    {%- set first_days, next_days = ranges.columns[0].values(), ranges.columns[1].values() -%}
    {%- if ranges.columns[2].values()[0] -%}
        {%- do conditions.extend(["ingested_at is null", "ingested_at < cast('0001-01-02' as timestamp)"]) -%}
    {%- endif -%}
    {%- if ranges.columns[3].values()[0] -%}
        {%- do conditions.extend([
            "ingested_at < cast('0001-01-01' as timestamp)", "ingested_at >= cast('9999-12-31' as timestamp)"
        ]) -%}
    {%- endif -%}
    {%- for first_day, next_day in few_ranges(first_days, next_days) if first_day is not none -%}
        {%- do conditions.append(
            "(ingested_at >= cast('" ~ first_day ~ "' as timestamp) and ingested_at < cast('" ~ next_day ~ "' as timestamp))"
        ) -%}
    {%- endfor -%}
    {{ return('(' ~ conditions | join('\n            or ') ~ ')' if conditions else 'nothing') }}
{%- endmacro %}
