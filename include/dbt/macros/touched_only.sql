{#- What a data test looks at. TEST_SCOPE is `touched`: what arrived on the days that the load has just taken; or `everything`,
    as where it is not set. Touched days are those that differ from what counts as loaded: there are some from
    fct_transactions, which has them forgotten, until loaded_transaction_days, which has them all again. -#}

{% macro touched_only() -%}
    {#- Whether a test looks at touched days alone. Never on a first load or a full refresh: then no day counts as loaded.
        Nothing depends on TEST_SCOPE while dbt parses, and it is not read, so that another one parses no test again. -#}
    {%- if not execute -%}
        {{ return(false) }}
    {%- endif -%}
    {%- set scope = env_var('TEST_SCOPE', '') or 'everything' -%}
    {%- if scope not in ('touched', 'everything') -%}
        {{ exceptions.raise_compiler_error("TEST_SCOPE is '" ~ scope ~ "': give touched or everything, or leave it empty for everything") }}
    {%- endif -%}
    {#- A load in ranges is tested in ranges. -#}
    {%- if load_arrived_before() -%}
        {{ return(true) }}
    {%- endif -%}
    {%- set loaded = loaded_days(built('model', 'fct_transactions')) if scope == 'touched' else none -%}
    {{ return(loaded is not none and run_query('select count(*) from ' ~ loaded).columns[0].values()[0] > 0) }}
{%- endmacro %}

{% macro built(resource_type, name) -%}
    {#- What a test reads beside its own model, from the graph: dbt looks for no ref in a generic test's `where`. All of it is
        built before the fact or is the fact, and no test that asks for it is of a model before the fact. -#}
    {%- set node = graph.nodes[resource_type ~ '.customer_analytics.' ~ name] -%}
    {{ return(api.Relation.create(database=node.database, schema=node.schema, identifier=node.alias)) }}
{%- endmacro %}

{% macro arrived_on_touched_days() -%}
    {#- A condition on ingested_at: the row arrived on a touched day, or touched_only() is not. -#}
    {%- if not touched_only() -%}
        {{ return('1 = 1') }}
    {%- endif -%}
    {%- set fact = built('model', 'fct_transactions') -%}
    {%- set arrivals = arrivals_to_load(
        built('model', 'stg_transaction_days'), loaded_days(fact), rejected_so_far(fact), built('snapshot', 'customers_snapshot')
    ) -%}
    {{ return({'all': '1 = 1', 'nothing': '1 = 0'}.get(arrivals, arrivals)) }}
{%- endmacro %}

{% macro of_touched_transactions() -%}
    {#- A condition on transaction_id in the fact: one of the transactions that arrived on a touched day. -#}
    {%- set arrivals = arrived_on_touched_days() -%}
    {%- if arrivals in ('1 = 1', '1 = 0') -%}
        {{ return(arrivals) }}
    {%- endif -%}
    {%- set touched = '(select transaction_id from ' ~ built('model', 'fct_transactions') ~ ' where ' ~ arrivals ~ ')' -%}
    {{ return(ids_within(touched ~ ' as touched', 'transaction_id') ~ ' and transaction_id in ' ~ touched) }}
{%- endmacro %}

{% macro in_touched_months() -%}
    {#- A condition on month: one in which a transaction lies that arrived on a touched day. -#}
    {%- set arrivals = arrived_on_touched_days() -%}
    {%- if arrivals in ('1 = 1', '1 = 0') -%}
        {{ return(arrivals) }}
    {%- endif -%}
    {{ return(
        'month in (select ' ~ month_of('transaction_date') ~ ' from ' ~ built('model', 'fct_transactions') ~ ' where ' ~ arrivals ~ ')'
    ) }}
{%- endmacro %}

{% macro get_where_subquery(relation) -%}
    {#- dbt's place to complete a generic test's `where`, in which its yml can name no macro. -#}
    {%- set where = config.get('where', '') -%}
    {%- if not where -%}
        {{ return(relation) }}
    {%- endif -%}
    {%- set conditions = {
        '__of_touched_transactions__': of_touched_transactions,
        '__in_touched_months__': in_touched_months,
    } -%}
    {%- set found = namespace(where=where) -%}
    {%- for name, condition in conditions.items() if name in where -%}
        {%- set found.where = found.where | replace(name, condition()) -%}
    {%- endfor -%}
    {{ return('(select * from ' ~ relation ~ ' where ' ~ found.where ~ ') dbt_subquery') }}
{%- endmacro %}
