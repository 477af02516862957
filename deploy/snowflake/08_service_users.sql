-- Airflow's users: one for the nightly run, and one for the campaign exports, which alone may read personal data.
-- Each has a key of its own; docs/snowflake.md says how it gets it. A service user has no password.
-- No secondary roles: a session has what its role may, and nothing besides.
use role useradmin;

create user if not exists {{ deployment }}_airflow
    type = service
    default_role = {{ deployment }}_transformer
    default_warehouse = {{ deployment }}_transform
    default_secondary_roles = ()
    comment = 'Airflow: customer_360_refresh';

alter user if exists {{ deployment }}_airflow set
    type = service
    default_role = {{ deployment }}_transformer
    default_warehouse = {{ deployment }}_transform
    default_secondary_roles = ();

grant role {{ deployment }}_transformer to user {{ deployment }}_airflow;

create user if not exists {{ deployment }}_export
    type = service
    default_role = {{ deployment }}_exporter
    default_warehouse = {{ deployment }}_read
    default_secondary_roles = ()
    comment = 'Airflow: campaign_exports';

alter user if exists {{ deployment }}_export set
    type = service
    default_role = {{ deployment }}_exporter
    default_warehouse = {{ deployment }}_read
    default_secondary_roles = ();

grant role {{ deployment }}_exporter to user {{ deployment }}_export;
