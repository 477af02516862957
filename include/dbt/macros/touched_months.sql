{#- Which months of which customers a load of the fact touches stands in touched_customer_months, from before the fact changes
    until fct_customer_months is as the fact: whatever ends a run in between, the next one computes them again. A row without a
    customer stands for every month of everybody. -#}

{% macro touch_all_months() -%}
    {%- if execute and not is_incremental() -%}
        insert into {{ ref('touched_customer_months').render() }} (customer_id, month) values (null, null)
    {%- endif -%}
{%- endmacro %}

{% macro month_of(day) -%}
    cast({{ dbt.date_trunc('month', day) }} as date)
{%- endmacro %}

{% macro touched_months(touched) -%}
    {#- 'all', 'nothing', or a condition on transaction_date that holds in every touched month, with literal days. -#}
    {%- set months -%}
        select distinct
            touched.month,
            {{ dbt.last_day('touched.month', 'month') }} as month_end
        from {{ touched }} as touched
        order by touched.month nulls first
    {%- endset -%}
    {%- set found = run_query(months) if execute else none -%}
    {%- if found is none or found.rows | length == 0 -%}
        {{ return('nothing') }}
    {%- endif -%}
    {%- set first_days, last_days = found.columns[0].values(), found.columns[1].values() -%}
    {%- if first_days[0] is none -%}
        {{ return('all') }}
    {%- endif -%}
    {%- set conditions = [] -%}
    {%- for first_day, last_day in few_ranges(first_days, last_days) -%}
        {%- do conditions.append(
            "transaction_date between cast('" ~ first_day ~ "' as date) and cast('" ~ last_day ~ "' as date)"
        ) -%}
    {%- endfor -%}
    {{ return('(' ~ conditions | join('\n            or ') ~ ')') }}
{%- endmacro %}

{% macro forget_touched_months() -%}
    delete from {{ ref('touched_customer_months').render() }}
{%- endmacro %}

{% macro touch_months(fact, touched, leaves) -%}
    {#- The months of the rows that leave the fact and of those that come in; every month when all rows leave. -#}
    insert into {{ ref('touched_customer_months').render() }} (customer_id, month)
    {% if leaves is none -%}
    values (null, null)
    {%- else -%}
    select
        customer_id,
        {{ month_of('transaction_date') }} as month
    from {{ fact }}
    where {{ leaves }}
    union distinct
    select
        customer_id,
        {{ month_of('transaction_date') }} as month
    from {{ touched }}
    where customer_id is not null
    {%- endif %}
{%- endmacro %}
