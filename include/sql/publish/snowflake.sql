{#- Puts the validated marts of one run in front of the readers: each by one zero-copy clone that keeps the grants of
    the table it replaces. Snowflake commits each of them; the profile, which holds all the others, comes last. A failure in
    between leaves the profile of the earlier date, so that a second try clones all of them again. A clone of a transient table
    has to be transient: the marts can be built again, core and history are permanent. With copy grants a clone gets no
    future grants, so the first of all stands in for the table that it would replace. -#}
create schema if not exists marts;

create schema if not exists intermediate;
{% for model in intermediate %}
create or replace transient table intermediate.{{ model }} clone {{ run_schema }}.{{ model }} copy grants;
{% endfor %}
{% for mart in marts %}
create transient table if not exists marts.{{ mart }} like {{ run_schema }}.{{ mart }};

create or replace transient table marts.{{ mart }} clone {{ run_schema }}.{{ mart }} copy grants;
{% endfor %}
begin transaction;
{% for mart in marts %}
{% include 'publish/publication.jinja' %}
{% endfor %}
commit;
