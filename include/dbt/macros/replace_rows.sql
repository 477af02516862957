{% macro replace_rows(arguments, leaves) -%}
    {#- For an incremental strategy: the rows that meet the condition `leaves` leave the table, and those of temp_relation come in. -#}
    {%- set columns = get_quoted_csv(arguments.dest_columns | map(attribute='name')) -%}
    {%- set changes -%}
        delete from {{ arguments.target_relation }}
        where {{ leaves }};
        insert into {{ arguments.target_relation }} ({{ columns }})
        select {{ columns }}
        from {{ arguments.temp_relation }}
    {%- endset -%}
    {{ in_one_transaction(changes) }}
{%- endmacro %}
