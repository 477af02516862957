{% macro get_incremental_replace_touched_sql(arguments) -%}
    {#- Of the transactions in temp_relation all rows leave the table, and those that hold more than their id come in: the
        others are no longer delivered. When no day counts as loaded, everything leaves. The literal date, from the rows that
        leave, lets Snowflake skip partitions, which it does not do for a subquery. -#}
    {%- set target, touched = arguments.target_relation, arguments.temp_relation -%}
    {%- set loaded = loaded_days(target) -%}
    {%- if loaded is not none -%}
        {%- do run_query(forget_changed_days(ref('stg_transaction_days'), loaded)) -%}
    {%- endif -%}
    {%- set replaces_all = loaded is none or run_query('select count(*) from ' ~ loaded).columns[0].values()[0] == 0 -%}
    {%- set is_touched = 'transaction_id in (select transaction_id from ' ~ touched ~ ')' -%}
    {%- set columns = get_quoted_csv(arguments.dest_columns | map(attribute='name')) -%}
    {%- set touches = replaces_all or run_query('select count(*) from ' ~ touched).columns[0].values()[0] > 0 -%}
    {%- set earliest = none -%}
    {%- if touches -%}
        {%- set found = run_query(
            'select min(transaction_date) from ' ~ target ~ ('' if replaces_all else ' where ' ~ is_touched)
        ) -%}
        {%- set earliest = found.columns[0].values()[0] -%}
    {%- endif -%}
    {%- set changes -%}
        {% if earliest is not none -%}
        delete from {{ target }}
        where
            {% if not replaces_all %}{{ is_touched }} and {% endif -%}
            transaction_date >= cast('{{ earliest }}' as date);
        {% endif %}
        insert into {{ target }} ({{ columns }})
        select {{ columns }}
        from {{ touched }}
        where customer_id is not null
    {%- endset -%}
    {%- if not touches -%}
        select 'nothing to load' as outcome
    {%- else -%}
        {{ in_one_transaction(changes) }}
    {%- endif -%}
{%- endmacro %}

{% macro in_one_transaction(changes) -%}
    {{ return(adapter.dispatch('in_one_transaction')(changes)) }}
{%- endmacro %}

{% macro default__in_one_transaction(changes) -%}
    {#- The materialization has begun one. -#}
    {{ return(changes) }}
{%- endmacro %}

{% macro snowflake__in_one_transaction(changes) -%}
    {{ return(snowflake_dml_explicit_transaction(changes)) }}
{%- endmacro %}
