{% if edition != 'standard' -%}
-- What the screens need, a Streamlit app that runs with restricted caller's rights: with those privileges of whoever
-- looks that are granted here as caller grants, and with none of its owner's. The owner reads nothing itself.
-- On Standard Edition there are no masking policies, and the screens do not run in Snowflake.
use role useradmin;

create role if not exists {{ deployment }}_screens
    comment = 'Owns and deploys the screens; what they show is read with the rights of who looks';

grant role {{ deployment }}_screens to role sysadmin;

use role sysadmin;

create schema if not exists {{ deployment }}.screens with managed access;

-- Only accountadmin may make a compute pool, and say what of a caller's privileges an app may use.
use role accountadmin;

create compute pool if not exists {{ deployment }}_screens -- noqa: PRS
    min_nodes = 1
    max_nodes = 1
    instance_family = cpu_x64_xs
    auto_resume = true
    initially_suspended = true
    auto_suspend_secs = 600
    comment = 'The screens';

grant caller usage on database {{ deployment }} to role {{ deployment }}_screens;

grant caller usage on schema {{ deployment }}.marts to role {{ deployment }}_screens;

grant inherited caller select on all tables in schema {{ deployment }}.marts to role {{ deployment }}_screens;

grant inherited caller select on all views in schema {{ deployment }}.marts to role {{ deployment }}_screens;

grant inherited caller select on all semantic views in schema {{ deployment }}.marts
    to role {{ deployment }}_screens;

grant caller usage on schema {{ deployment }}.ops to role {{ deployment }}_screens;

grant caller insert on table {{ deployment }}.ops.screens_log to role {{ deployment }}_screens;

grant caller usage on warehouse {{ deployment }}_read to role {{ deployment }}_screens;

-- The owner: deploys the app. The integration that its packages come through is made by hand: docs/snowflake.md.
use role securityadmin;

grant usage on database {{ deployment }} to role {{ deployment }}_screens;

grant usage, create streamlit on schema {{ deployment }}.screens to role {{ deployment }}_screens;

grant usage on warehouse {{ deployment }}_read to role {{ deployment }}_screens;

grant usage on compute pool {{ deployment }}_screens to role {{ deployment }}_screens;

-- Readers and service open the app. That they add to ops.screens_log stands in 07_grants.sql.
grant usage on schema {{ deployment }}.screens to role {{ deployment }}_reader;

grant usage on future streamlits in schema {{ deployment }}.screens to role {{ deployment }}_reader;

grant usage on schema {{ deployment }}.screens to role {{ deployment }}_service;

grant usage on future streamlits in schema {{ deployment }}.screens to role {{ deployment }}_service;
{%- endif %}
