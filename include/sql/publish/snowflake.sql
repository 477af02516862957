{#- Puts the validated marts of one run in front of the readers: each by one zero-copy clone that keeps the grants of
    the table it replaces. Snowflake commits each of them; what holds the others comes after them, so the profile is among
    the last. A failure in between leaves the profile of the earlier date, and a second try clones all of them again. A
    clone of a transient table has to be transient: the marts can be built again, core and history are permanent. With
    copy grants a clone gets no future grants, so the first of all stands in for the table that it would replace. On Standard
    Edition, which has no masking policies, readers get views without personal data. -#}
{% import 'publish/ops_views.jinja' as readers -%}
create schema if not exists marts;

create schema if not exists intermediate;
{% for mart in published %}
{%- if mart.validated %}
create transient table if not exists {{ mart.table_schema }}.{{ mart.name }} like {{ run_schema }}.{{ mart.name }};
{% endif %}
create or replace transient table {{ mart.table_schema }}.{{ mart.name }}
clone {{ run_schema }}.{{ mart.name }} copy grants;
{% endfor %}
{{ readers.ops_views('marts', 'secure view', ' copy grants') }}
{%- if edition == 'standard' %}
{% include 'publish/readers_views.jinja' %}
{% endif %}
begin transaction;
{% for mart in published if mart.validated %}
{% include 'publish/publication.jinja' %}
{% endfor %}
commit;
