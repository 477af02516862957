-- sysadmin owns the database and its schemas. Managed access: who makes a table may not grant it to others, so that
-- 07_grants.sql is all there is to read about who sees what.
use role sysadmin;

create database if not exists {{ deployment }}
    comment = 'Customer 360 marts, from raw to published';

create schema if not exists {{ deployment }}.raw with managed access;

create schema if not exists {{ deployment }}.staging with managed access;

create schema if not exists {{ deployment }}.core with managed access;

create schema if not exists {{ deployment }}.intermediate with managed access;

create schema if not exists {{ deployment }}.marts with managed access;

create schema if not exists {{ deployment }}.ops with managed access;
{%- if edition == 'standard' %}

-- What readers read in place of marts: views without personal data, made by each publication.
create schema if not exists {{ deployment }}.marts_read with managed access;
{%- endif %}
