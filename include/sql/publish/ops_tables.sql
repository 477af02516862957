{#- The tables of schema ops. Whoever runs this adds to those of an older warehouse what was added here since. Each
    measure that a mart watches is a column of publications. -#}
{% import 'publish/ops_columns.jinja' as ops -%}
create schema if not exists ops;
{% for table, columns in ops.columns.items() %}
create table if not exists ops.{{ table }} (
    {%- for column, type in columns.items() %}
    {{ column }} {{ type }}{{ "," if not loop.last }}
    {%- endfor %}
);
{% endfor %}
{% for measure in drift if measure not in ops.columns.publications %}
alter table ops.publications add column if not exists {{ measure }} decimal(38, 4);
{% endfor %}
