{#- Puts the validated marts of one run in front of the readers, in one transaction: they see the old marts or the new,
    never some of each. -#}
begin transaction;

create schema if not exists marts;

create schema if not exists intermediate;
{% for mart in marts %}
create or replace table marts.{{ mart }} as
select * from {{ run_schema }}.{{ mart }};

insert into ops.publications (dag_run_id, as_of_date, mart, row_count, lifetime_value, published_at)
select
    '{{ dag_run_id }}',
    cast('{{ as_of_date }}' as date),
    '{{ mart }}',
    count(*),
    {{ 'sum(lifetime_value)' if mart in marts_with_lifetime_value else 'null' }},
    cast('{{ published_at }}' as timestamp)
from {{ run_schema }}.{{ mart }};
{% endfor %}
{% for model in intermediate %}
create or replace table intermediate.{{ model }} as
select * from {{ run_schema }}.{{ model }};
{% endfor %}
commit;
