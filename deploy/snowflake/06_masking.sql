-- Before the grants: nobody is to see personal data in between.
use role sysadmin;

create masking policy if not exists customer_360.ops.mask_personal_data as (value string) returns string ->
    case
        when is_role_in_session('CUSTOMER_360_TRANSFORMER') or is_role_in_session('CUSTOMER_360_EXPORTER') then value
        when value is not null then '*****'
    end;

-- A policy that columns use cannot be replaced, but its body can be set.
alter masking policy if exists customer_360.ops.mask_personal_data set body ->
    case
        when is_role_in_session('CUSTOMER_360_TRANSFORMER') or is_role_in_session('CUSTOMER_360_EXPORTER') then value
        when value is not null then '*****'
    end;

-- With force: also where the column has a policy already, this one or another.
alter table if exists customer_360.raw.customers
    modify column first_name set masking policy customer_360.ops.mask_personal_data force;

alter table if exists customer_360.raw.customers
    modify column last_name set masking policy customer_360.ops.mask_personal_data force;

alter table if exists customer_360.raw.customers
    modify column email set masking policy customer_360.ops.mask_personal_data force;

-- dbt sets it on every profile that it builds; this is for one that was published before there was a policy.
alter table if exists customer_360.marts.customer_360_profile
    modify column first_name set masking policy customer_360.ops.mask_personal_data force;

alter table if exists customer_360.marts.customer_360_profile
    modify column last_name set masking policy customer_360.ops.mask_personal_data force;

alter table if exists customer_360.marts.customer_360_profile
    modify column full_name set masking policy customer_360.ops.mask_personal_data force;

alter table if exists customer_360.marts.customer_360_profile
    modify column email set masking policy customer_360.ops.mask_personal_data force;
