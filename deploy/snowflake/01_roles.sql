-- Four roles, each with what its users do and no more; 07_grants.sql says what that is.
use role useradmin;

create role if not exists customer_360_loader
    comment = 'Ingestion: fills schema raw';

create role if not exists customer_360_transformer
    comment = 'The nightly run: builds, validates and publishes the marts';

create role if not exists customer_360_reader
    comment = 'Analysts and applications: read schema marts, personal data masked';

create role if not exists customer_360_exporter
    comment = 'Campaign exports: read schema marts with personal data';

-- Under sysadmin, so that what these roles own is never out of the administrators' reach.
grant role customer_360_loader to role sysadmin;

grant role customer_360_transformer to role sysadmin;

grant role customer_360_reader to role sysadmin;

grant role customer_360_exporter to role sysadmin;
