-- Only accountadmin may make a resource monitor and put a warehouse under it. Each warehouse has one of its own: what
-- readers use up must not suspend the night.
use role accountadmin;

-- 100 credits are 50 hours of a small warehouse in a month.
create resource monitor if not exists {{ deployment }}_monthly with
    credit_quota = 100
    frequency = monthly
    start_timestamp = immediately
    triggers
        on 75 percent do notify
        on 90 percent do notify
        on 100 percent do suspend
        on 110 percent do suspend_immediate;

alter resource monitor if exists {{ deployment }}_monthly set
    credit_quota = 100
    triggers
        on 75 percent do notify
        on 90 percent do notify
        on 100 percent do suspend
        on 110 percent do suspend_immediate;

-- The same for readers, developers and exports.
create resource monitor if not exists {{ deployment }}_read_monthly with
    credit_quota = 100
    frequency = monthly
    start_timestamp = immediately
    triggers
        on 75 percent do notify
        on 90 percent do notify
        on 100 percent do suspend
        on 110 percent do suspend_immediate;

alter resource monitor if exists {{ deployment }}_read_monthly set
    credit_quota = 100
    triggers
        on 75 percent do notify
        on 90 percent do notify
        on 100 percent do suspend
        on 110 percent do suspend_immediate;

alter warehouse if exists {{ deployment }}_transform set resource_monitor = {{ deployment }}_monthly;

alter warehouse if exists {{ deployment }}_read set resource_monitor = {{ deployment }}_read_monthly;
