create schema if not exists ops;

create table if not exists ops.publications (
    dag_run_id varchar,
    as_of_date date,
    mart varchar,
    row_count bigint,
    lifetime_value decimal(18, 2),
    published_at timestamp
);

create table if not exists ops.validation_results (
    dag_run_id varchar,
    mart varchar,
    as_of_date date,
    run_schema varchar,
    check_name varchar,
    severity varchar,
    observed varchar,
    expected varchar,
    passed boolean,
    checked_at timestamp
);

create table if not exists ops.restatements (
    as_of_date date,
    customer_id varchar,
    changed_column varchar,
    before varchar,
    after varchar,
    dag_run_id varchar,
    restated_at timestamp
);

create table if not exists ops.warehouse (
    warehouse_id varchar,
    made_at timestamp
);
{% for measure in drift if measure != 'row_count' %}
alter table ops.publications add column if not exists {{ measure }} decimal(38, 4);
{% endfor %}
