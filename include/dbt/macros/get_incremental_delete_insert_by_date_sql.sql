{% macro get_incremental_delete_insert_by_date_sql(arguments) -%}
    {#- The incremental strategy delete+insert, with a literal date before which the table is not searched for earlier
        versions of the new rows: Snowflake skips the partitions before it, which it does not do for a subquery. A version
        further back would stay beside its correction; the unique test then stops the run, and a full refresh cures it. -#}
    {%- set earliest -%}
        select cast({{ dbt.dateadd('day', -var('correction_days'), 'min(transaction_date)') }} as date)
        from {{ arguments.temp_relation }}
    {%- endset -%}
    {%- set earliest = run_query(earliest).columns[0].values()[0] or '9999-12-31' -%}
    {{ get_delete_insert_merge_sql(
        arguments.target_relation,
        arguments.temp_relation,
        arguments.unique_key,
        arguments.dest_columns,
        ["transaction_date >= cast('" ~ earliest ~ "' as date)"],
    ) }}
{%- endmacro %}
