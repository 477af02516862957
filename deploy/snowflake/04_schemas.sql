-- sysadmin owns the database and its schemas. Managed access: who makes a table may not grant it to others, so that
-- 07_grants.sql is all there is to read about who sees what.
use role sysadmin;

create database if not exists customer_360
    comment = 'Customer 360 marts, from raw to published';

create schema if not exists customer_360.raw with managed access;

create schema if not exists customer_360.staging with managed access;

create schema if not exists customer_360.core with managed access;

create schema if not exists customer_360.intermediate with managed access;

create schema if not exists customer_360.marts with managed access;

create schema if not exists customer_360.ops with managed access;
