{#- Puts the validated marts of one run in front of the readers, in one transaction: they see the old marts or the new,
    never some of each. -#}
{% import 'publish/ops_views.jinja' as readers -%}
begin transaction;

create schema if not exists marts;

create schema if not exists intermediate;
{% for mart in published %}
create or replace table {{ mart.table_schema }}.{{ mart.name }} as
select * from {{ run_schema }}.{{ mart.name }};
{% if mart.validated %}
{% include 'publish/publication.jinja' %}
{% endif %}
{%- endfor %}
{{ readers.ops_views('marts') }}
commit;
