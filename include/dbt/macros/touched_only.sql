{#- What a data test looks at. TEST_SCOPE is `touched`: what arrived on the days that the load has just taken; or `everything`,
    as where it is not set. Touched days are those that differ from what counts as loaded: there are some from
    fct_transactions, which has them forgotten, until loaded_transaction_days, which has them all again. -#}

{% macro touched_only() -%}
    {#- Whether a test looks at touched days alone. Never on a first load or a full refresh: then no day counts as loaded.
        Nothing depends on TEST_SCOPE while dbt parses, and it is not read, so that another one parses no test again. -#}
    {%- set scope = env_var('TEST_SCOPE', '') or 'everything' if execute else 'everything' -%}
    {%- if scope not in ('touched', 'everything') -%}
        {{ exceptions.raise_compiler_error("TEST_SCOPE is '" ~ scope ~ "': give touched or everything, or leave it empty for everything") }}
    {%- endif -%}
    {%- set loaded = loaded_days(relation_of('fct_transactions')) if scope == 'touched' else none -%}
    {{ return(loaded is not none and run_query('select count(*) from ' ~ loaded).columns[0].values()[0] > 0) }}
{%- endmacro %}

{% macro of_touched_days(ingested_at) -%}
    {#- A condition: the row arrived on a touched day, or touched_only() is not. Its literal lets both engines skip the rows
        that arrived before all touched days. -#}
    {%- if not touched_only() -%}
        true
    {%- else -%}
        {%- set first = first_touched_day() -%}
        {%- set arrived = 'cast(' ~ ingested_at ~ ' as timestamp)' -%}
        (
            {{ arrived }} >= cast('{{ first.with_time }}' as timestamp)
            {%- if first.without_time %}
            or {{ ingested_at }} is null
            or {{ arrived }} < cast('0001-01-02' as timestamp)
            {%- endif %}
        )
        and {{ arrival_day(ingested_at) }} in (select touched.arrival_day from ({{ touched_days() }}) as touched)
    {%- endif -%}
{%- endmacro %}

{% macro since_touched_days(ingested_at) -%}
    {#- A condition: the row may supersede one that arrived on a touched day, or touched_only() is not. Every row supersedes
        one without a time. -#}
    {%- set first = first_touched_day() if touched_only() else none -%}
    {%- if first is none or first.without_time -%}
        true
    {%- else -%}
        cast({{ ingested_at }} as timestamp) >= cast('{{ first.with_time }}' as timestamp)
    {%- endif -%}
{%- endmacro %}

{% macro touched_days() -%}
    {{ changed_days(relation_of('stg_transaction_days'), loaded_days(relation_of('fct_transactions'))) }}
{%- endmacro %}

{% macro relation_of(name) -%}
    {#- What ref would name. dbt does not render the tests unique and not_null while it parses, and would miss a ref in here. -#}
    {%- set node = graph.nodes['model.customer_analytics.' ~ name] -%}
    {{ return(api.Relation.create(database=node.database, schema=node.schema, identifier=node.alias)) }}
{%- endmacro %}

{% macro first_touched_day() -%}
    {#- with_time: the first of them, as text, a day after all when there is none; without_time: whether the day of the rows
        without a time of arrival is one of them. -#}
    {%- set found -%}
        select
            min(case when touched.arrival_day > {{ arrival_day('null') }} then touched.arrival_day end),
            count(case when touched.arrival_day = {{ arrival_day('null') }} then 1 end)
        from ({{ touched_days() }}) as touched
    {%- endset -%}
    {%- set found = run_query(found) -%}
    {{ return({
        'with_time': found.columns[0].values()[0] or '9999-12-31',
        'without_time': found.columns[1].values()[0] > 0,
    }) }}
{%- endmacro %}
