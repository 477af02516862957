-- Airflow's user. A service user has no password; docs/snowflake.md says how it gets its public key.
-- No secondary roles: otherwise every session of the transformer would have the exporter's rights too.
use role useradmin;

create user if not exists {{ deployment }}_airflow
    type = service
    default_role = {{ deployment }}_transformer
    default_warehouse = {{ deployment }}_transform
    default_secondary_roles = ()
    comment = 'Airflow: customer_360_refresh and campaign_exports';

alter user if exists {{ deployment }}_airflow set
    type = service
    default_role = {{ deployment }}_transformer
    default_warehouse = {{ deployment }}_transform
    default_secondary_roles = ();

grant role {{ deployment }}_transformer to user {{ deployment }}_airflow;

grant role {{ deployment }}_exporter to user {{ deployment }}_airflow;
