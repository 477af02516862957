-- Two warehouses, so that a query of a reader never waits for a build. After each create an alter: a second set-up
-- brings a warehouse that was changed since back to what stands here.
use role sysadmin;

create warehouse if not exists {{ deployment }}_transform with
    warehouse_size = small
    auto_suspend = 60
    auto_resume = true
    initially_suspended = true
    statement_timeout_in_seconds = 3600
    comment = 'Ingestion and the nightly run';

alter warehouse if exists {{ deployment }}_transform set
    warehouse_size = small
    auto_suspend = 60
    auto_resume = true
    statement_timeout_in_seconds = 3600;

create warehouse if not exists {{ deployment }}_read with
    warehouse_size = small
    auto_suspend = 60
    auto_resume = true
    initially_suspended = true
    statement_timeout_in_seconds = 600
    comment = 'Analysts, applications and campaign exports';

alter warehouse if exists {{ deployment }}_read set
    warehouse_size = small
    auto_suspend = 60
    auto_resume = true
    statement_timeout_in_seconds = 600;
