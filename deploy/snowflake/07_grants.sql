-- Tables that exist, and future ones: a mart is a new table after every publication.
use role securityadmin;

-- Loader: the rows of raw.
grant usage on database customer_360 to role customer_360_loader;

grant usage, create table on schema customer_360.raw to role customer_360_loader;

grant select, insert, update, delete, truncate on all tables in schema customer_360.raw to role customer_360_loader;

grant select, insert, update, delete, truncate on future tables in schema customer_360.raw to role customer_360_loader;

grant usage on warehouse customer_360_transform to role customer_360_loader;

-- Transformer: each run makes a schema of its own, marts_run_<date>_<run>, and drops it. What it makes it owns, so
-- create is all that it needs to replace, fill and drop the tables of the schemas below.
grant usage, create schema on database customer_360 to role customer_360_transformer;

grant usage on schema customer_360.raw to role customer_360_transformer;

grant select on all tables in schema customer_360.raw to role customer_360_transformer;

grant select on future tables in schema customer_360.raw to role customer_360_transformer;

grant usage, create table, create view on schema customer_360.staging to role customer_360_transformer;

grant usage, create table, create view on schema customer_360.core to role customer_360_transformer;

grant usage, create table, create view on schema customer_360.intermediate to role customer_360_transformer;

grant usage, create table, create view on schema customer_360.marts to role customer_360_transformer;

grant usage, create table, create view on schema customer_360.ops to role customer_360_transformer;

grant apply on masking policy customer_360.ops.mask_personal_data to role customer_360_transformer;

grant usage on warehouse customer_360_transform to role customer_360_transformer;

-- Reader: the tables of marts.
grant usage on database customer_360 to role customer_360_reader;

grant usage on schema customer_360.marts to role customer_360_reader;

grant select on all tables in schema customer_360.marts to role customer_360_reader;

grant select on future tables in schema customer_360.marts to role customer_360_reader;

grant usage on warehouse customer_360_read to role customer_360_reader;

-- Exporter: the same; the masking policy lets it see personal data.
grant usage on database customer_360 to role customer_360_exporter;

grant usage on schema customer_360.marts to role customer_360_exporter;

grant select on all tables in schema customer_360.marts to role customer_360_exporter;

grant select on future tables in schema customer_360.marts to role customer_360_exporter;

grant usage on warehouse customer_360_read to role customer_360_exporter;
