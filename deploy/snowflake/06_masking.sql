{% if edition != 'standard' -%}
-- Before the grants: nobody is to see personal data in between.
use role sysadmin;

create masking policy if not exists {{ deployment }}.ops.mask_personal_data as (value string) returns string ->
    case
        when
            is_role_in_session('{{ deployment | upper }}_TRANSFORMER')
            or is_role_in_session('{{ deployment | upper }}_EXPORTER')
            or is_role_in_session('{{ deployment | upper }}_SERVICE')
            then value
        when value is not null then '*****'
    end;

-- A policy that columns use cannot be replaced, but its body can be set.
alter masking policy if exists {{ deployment }}.ops.mask_personal_data set body ->
    case
        when
            is_role_in_session('{{ deployment | upper }}_TRANSFORMER')
            or is_role_in_session('{{ deployment | upper }}_EXPORTER')
            or is_role_in_session('{{ deployment | upper }}_SERVICE')
            then value
        when value is not null then '*****'
    end;

-- With force: also where the column has a policy already, this one or another.
alter table if exists {{ deployment }}.raw.customers
    modify column first_name set masking policy {{ deployment }}.ops.mask_personal_data force;

alter table if exists {{ deployment }}.raw.customers
    modify column last_name set masking policy {{ deployment }}.ops.mask_personal_data force;

alter table if exists {{ deployment }}.raw.customers
    modify column email set masking policy {{ deployment }}.ops.mask_personal_data force;

-- dbt sets it on these too, whenever it builds them; this is for those that were built before there was a policy.
alter table if exists {{ deployment }}.core.dim_customer
    modify column first_name set masking policy {{ deployment }}.ops.mask_personal_data force;

alter table if exists {{ deployment }}.core.dim_customer
    modify column last_name set masking policy {{ deployment }}.ops.mask_personal_data force;

alter table if exists {{ deployment }}.core.dim_customer
    modify column email set masking policy {{ deployment }}.ops.mask_personal_data force;

alter table if exists {{ deployment }}.core.customers_snapshot
    modify column first_name set masking policy {{ deployment }}.ops.mask_personal_data force;

alter table if exists {{ deployment }}.core.customers_snapshot
    modify column last_name set masking policy {{ deployment }}.ops.mask_personal_data force;

alter table if exists {{ deployment }}.core.customers_snapshot
    modify column email set masking policy {{ deployment }}.ops.mask_personal_data force;

alter table if exists {{ deployment }}.marts.customer_360_profile
    modify column first_name set masking policy {{ deployment }}.ops.mask_personal_data force;

alter table if exists {{ deployment }}.marts.customer_360_profile
    modify column last_name set masking policy {{ deployment }}.ops.mask_personal_data force;

alter table if exists {{ deployment }}.marts.customer_360_profile
    modify column full_name set masking policy {{ deployment }}.ops.mask_personal_data force;

alter table if exists {{ deployment }}.marts.customer_360_profile
    modify column email set masking policy {{ deployment }}.ops.mask_personal_data force;
{%- endif %}
