{#- Puts the validated marts of one run in front of the readers, in one transaction: they see the old marts or the new,
    never some of each. -#}
begin transaction;

create schema if not exists marts;

create schema if not exists intermediate;
{% for mart in marts %}
create or replace table marts.{{ mart }} as
select * from {{ run_schema }}.{{ mart }};

{% include 'publish/publication.jinja' %}
{% endfor %}
{% for model in intermediate %}
create or replace table intermediate.{{ model }} as
select * from {{ run_schema }}.{{ model }};
{% endfor %}
commit;
