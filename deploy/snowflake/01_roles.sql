-- Roles, each with what its users do and no more; 07_grants.sql says what that is.
use role useradmin;

create role if not exists {{ deployment }}_loader
    comment = 'Ingestion: fills schema raw';

create role if not exists {{ deployment }}_transformer
    comment = 'The nightly run: builds, validates and publishes the marts';

create role if not exists {{ deployment }}_reader
    comment = 'Analysts and applications: read schema marts, personal data masked';

create role if not exists {{ deployment }}_exporter
    comment = 'Campaign exports: read schema marts with personal data';

create role if not exists {{ deployment }}_developer
    comment = 'Who changes the marts: reads raw and core, personal data masked, and builds in schemas dev_...';

{% if edition != 'standard' -%}
create role if not exists {{ deployment }}_service
    comment = 'Customer service: reads schema marts with personal data, and looks customers up in the screens';
{%- endif %}

-- Under sysadmin, so that what these roles own is never out of the administrators' reach.
grant role {{ deployment }}_loader to role sysadmin;

grant role {{ deployment }}_transformer to role sysadmin;

grant role {{ deployment }}_reader to role sysadmin;

grant role {{ deployment }}_exporter to role sysadmin;

grant role {{ deployment }}_developer to role sysadmin;
{% if edition != 'standard' %}
grant role {{ deployment }}_service to role sysadmin;
{% endif %}
