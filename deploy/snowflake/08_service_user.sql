-- Airflow's user. A service user has no password; docs/snowflake.md says how it gets its public key.
-- No secondary roles: otherwise every session of the transformer would have the exporter's rights too.
use role useradmin;

create user if not exists customer_360_airflow
    type = service
    default_role = customer_360_transformer
    default_warehouse = customer_360_transform
    default_secondary_roles = ()
    comment = 'Airflow: customer_360_refresh and campaign_exports';

alter user if exists customer_360_airflow set
    type = service
    default_role = customer_360_transformer
    default_warehouse = customer_360_transform
    default_secondary_roles = ();

grant role customer_360_transformer to user customer_360_airflow;

grant role customer_360_exporter to user customer_360_airflow;
