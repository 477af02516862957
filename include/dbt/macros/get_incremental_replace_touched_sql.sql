{% macro get_incremental_replace_touched_sql(arguments) -%}
    {#- Of the transactions in temp_relation all rows leave the table, and those that hold more than their id come in: the
        others are no longer delivered. When no day counts as loaded, everything leaves. The literal date, from the rows that
        leave, lets Snowflake skip partitions, which it does not do for a subquery. -#}
    {%- set target, touched = arguments.target_relation, arguments.temp_relation -%}
    {%- set loaded, rejected = loaded_days(target), rejected_so_far(target) -%}
    {%- set days = ref('stg_transaction_days') -%}
    {%- set arrivals = arrivals_to_load(days, loaded, rejected, ref('customers_snapshot')) -%}
    {%- if arrivals == 'nothing' -%}
        select 'nothing to load' as outcome
    {%- else -%}
        {%- if loaded is not none -%}
            {%- do forget_days_to_load(days, loaded, rejected, ref('customers_snapshot')) -%}
        {%- endif -%}
        {%- set leaves = 'true' -%}
        {%- if arrivals != 'all' -%}
            {%- set leaves -%}
                {{ ids_within(touched, 'transaction_id') }} and transaction_id in (select transaction_id from {{ touched }})
            {%- endset -%}
        {%- endif -%}
        {%- set found = run_query('select min(transaction_date) from ' ~ target ~ ' where ' ~ leaves) -%}
        {%- set earliest = found.columns[0].values()[0] -%}
        {%- if earliest is not none -%}
            {%- set leaves = leaves ~ " and transaction_date >= cast('" ~ earliest ~ "' as date)" -%}
        {%- endif -%}
        {%- do run_query(touch_months(target, touched, leaves if arrivals != 'all' else none)) -%}
        {%- set columns = get_quoted_csv(arguments.dest_columns | map(attribute='name')) -%}
        {%- set changes -%}
            {% if earliest is not none -%}
            delete from {{ target }}
            where {{ leaves }};
            {% endif %}
            insert into {{ target }} ({{ columns }})
            select {{ columns }}
            from {{ touched }}
            where customer_id is not null
        {%- endset -%}
        {{ in_one_transaction(changes) }}
    {%- endif -%}
{%- endmacro %}
