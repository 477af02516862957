{%- import 'publish/ops_columns.jinja' as ops -%}
-- Tables that exist, and future ones: a mart is a new table after every publication.
use role securityadmin;

-- Loader: the rows of raw.
grant usage on database {{ deployment }} to role {{ deployment }}_loader;

grant usage, create table on schema {{ deployment }}.raw to role {{ deployment }}_loader;

grant select, insert, update, delete, truncate on all tables in schema {{ deployment }}.raw
    to role {{ deployment }}_loader;

grant select, insert, update, delete, truncate on future tables in schema {{ deployment }}.raw
    to role {{ deployment }}_loader;

grant usage on warehouse {{ deployment }}_transform to role {{ deployment }}_loader;

-- Transformer: each run makes a schema of its own, marts_run_<date>_<run>, and drops it. What it makes it owns, so
-- create is all that it needs to replace, fill and drop the tables of the schemas below.
grant usage, create schema on database {{ deployment }} to role {{ deployment }}_transformer;

grant usage on schema {{ deployment }}.raw to role {{ deployment }}_transformer;

grant select on all tables in schema {{ deployment }}.raw to role {{ deployment }}_transformer;

grant select on future tables in schema {{ deployment }}.raw to role {{ deployment }}_transformer;

grant usage, create table, create view on schema {{ deployment }}.staging to role {{ deployment }}_transformer;

grant usage, create table, create view on schema {{ deployment }}.core to role {{ deployment }}_transformer;

grant usage, create table, create view on schema {{ deployment }}.intermediate to role {{ deployment }}_transformer;

grant usage, create table, create view on schema {{ deployment }}.marts to role {{ deployment }}_transformer;

grant usage, create table, create view on schema {{ deployment }}.ops to role {{ deployment }}_transformer;

{% if edition == 'standard' -%}
grant usage, create view on schema {{ deployment }}.marts_read to role {{ deployment }}_transformer;
{%- else -%}
grant apply on masking policy {{ deployment }}.ops.mask_personal_data to role {{ deployment }}_transformer;
{%- endif %}

grant usage on warehouse {{ deployment }}_transform to role {{ deployment }}_transformer;

-- Reader: the tables of marts or, without masking policies, the views on them.
{%- set readable, kinds = ('marts_read', ('views',)) if edition == 'standard' else ('marts', ('tables', 'views')) %}
grant usage on database {{ deployment }} to role {{ deployment }}_reader;

grant usage on schema {{ deployment }}.{{ readable }} to role {{ deployment }}_reader;

{%- for kind in kinds %}
grant select on all {{ kind }} in schema {{ deployment }}.{{ readable }} to role {{ deployment }}_reader;

grant select on future {{ kind }} in schema {{ deployment }}.{{ readable }} to role {{ deployment }}_reader;
{% endfor %}
grant usage on warehouse {{ deployment }}_read to role {{ deployment }}_reader;

{% if edition != 'standard' -%}
-- Service: what the reader reads; the masking policy lets it see personal data.
grant usage on database {{ deployment }} to role {{ deployment }}_service;

grant usage on schema {{ deployment }}.marts to role {{ deployment }}_service;

grant select on all tables in schema {{ deployment }}.marts to role {{ deployment }}_service;

grant select on future tables in schema {{ deployment }}.marts to role {{ deployment }}_service;

grant select on all views in schema {{ deployment }}.marts to role {{ deployment }}_service;

grant select on future views in schema {{ deployment }}.marts to role {{ deployment }}_service;

grant usage on warehouse {{ deployment }}_read to role {{ deployment }}_service;
{%- endif %}

-- Exporter: the tables of marts; the masking policy lets it see personal data.
grant usage on database {{ deployment }} to role {{ deployment }}_exporter;

grant usage on schema {{ deployment }}.marts to role {{ deployment }}_exporter;

grant select on all tables in schema {{ deployment }}.marts to role {{ deployment }}_exporter;

grant select on future tables in schema {{ deployment }}.marts to role {{ deployment }}_exporter;

grant usage on warehouse {{ deployment }}_read to role {{ deployment }}_exporter;

-- And of ops what an export reads: the id of the warehouse, who is in which audience, who is suppressed since, and what
-- was exported before. It writes none of it: the decision and the log are the transformer's, to whom the tables belong,
-- as all of ops; a run makes them too.
use role {{ deployment }}_transformer;
{% for table in ('warehouse', 'audience_memberships', 'suppressions', 'export_runs', 'screens_log') %}
create table if not exists {{ deployment }}.ops.{{ table }} (
    {%- for column, data_type in ops.columns[table].items() %}
    {{ column }} {{ data_type }}{{ ',' if not loop.last }}
    {%- endfor %}
);
{% endfor %}
use role securityadmin;

grant usage on schema {{ deployment }}.ops to role {{ deployment }}_exporter;

{%- for table in ('warehouse', 'audience_memberships', 'suppressions', 'export_runs') %}
grant select on table {{ deployment }}.ops.{{ table }} to role {{ deployment }}_exporter;
{% endfor %}
{% if edition != 'standard' -%}
-- Reader and service: the screens write down who looks whom up, with the viewer's role. Nobody reads it with that role.
grant usage on schema {{ deployment }}.ops to role {{ deployment }}_reader;

grant insert on table {{ deployment }}.ops.screens_log to role {{ deployment }}_reader;

grant usage on schema {{ deployment }}.ops to role {{ deployment }}_service;

grant insert on table {{ deployment }}.ops.screens_log to role {{ deployment }}_service;
{%- endif %}


-- Developer: of production the tables and views of raw and core. Snowflake cannot say what a schema that is made is to
-- be called: dev_<user>_... is the part of dbt's target dev. What is made there belongs to this role, so developers can
-- write to each other's. Without masking policies nothing of production: raw and core have names and addresses.
grant usage, create schema on database {{ deployment }} to role {{ deployment }}_developer;

{% if edition != 'standard' -%}
grant usage on schema {{ deployment }}.raw to role {{ deployment }}_developer;

grant select on all tables in schema {{ deployment }}.raw to role {{ deployment }}_developer;

grant select on future tables in schema {{ deployment }}.raw to role {{ deployment }}_developer;

grant select on all views in schema {{ deployment }}.raw to role {{ deployment }}_developer;

grant select on future views in schema {{ deployment }}.raw to role {{ deployment }}_developer;

grant usage on schema {{ deployment }}.core to role {{ deployment }}_developer;

grant select on all tables in schema {{ deployment }}.core to role {{ deployment }}_developer;

grant select on future tables in schema {{ deployment }}.core to role {{ deployment }}_developer;

grant select on all views in schema {{ deployment }}.core to role {{ deployment }}_developer;

grant select on future views in schema {{ deployment }}.core to role {{ deployment }}_developer;
{%- endif %}

grant usage on warehouse {{ deployment }}_read to role {{ deployment }}_developer;
