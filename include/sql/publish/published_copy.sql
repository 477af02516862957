{#- What readers may see of one publication, as tables of `copy`, an attached file: marts without personal data, and
    what they see of schema ops. Marts that are not among `marts` stay as they are there. In the order of customers, so that
    a look-up reads few blocks. With `by_date` the file has a history, of which only the dates are written whose
    rows are others; `dropped` are tables of it that may be none any more. -#}
{% import 'publish/masked.jinja' as everybody -%}
{% import 'publish/ops_columns.jinja' as ops -%}
{% import 'publish/ops_views.jinja' as readers -%}
create schema if not exists {{ copy }}.marts;
{% for mart in marts %}
{% if by_date and mart.name == history %}
{% macro rows_by_date(relation) -%}
select
        as_of_date,
        count(*) as row_count,
        -- A sum of whole numbers, hugeint, which is exact.
        sum(hash({{ mart.columns | join(', ') }})) as fingerprint
    from {{ relation }}
    group by as_of_date
{%- endmacro %}
create or replace temp table changed_dates as
with in_warehouse as (

    {{ rows_by_date('marts.' ~ history) }}

),

in_copy as (

    {{ rows_by_date(copy ~ '.marts.' ~ history) }}

),

final as (

    select coalesce(in_warehouse.as_of_date, in_copy.as_of_date) as as_of_date
    from in_warehouse
    full join in_copy on in_warehouse.as_of_date = in_copy.as_of_date
    where
        in_warehouse.row_count is distinct from in_copy.row_count
        or in_warehouse.fingerprint is distinct from in_copy.fingerprint

)

select as_of_date from final;

delete from {{ copy }}.marts.{{ history }}
where as_of_date in (select changed_dates.as_of_date from changed_dates);

insert into {{ copy }}.marts.{{ history }} ({{ mart.columns | join(', ') }})
select
    {{ everybody.masked(mart) }}
from marts.{{ history }}
where as_of_date in (select changed_dates.as_of_date from changed_dates)
order by customer_id;

drop table changed_dates;
{% else %}
create or replace table {{ copy }}.marts.{{ mart.name }} as
select
    {{ everybody.masked(mart) }}
from marts.{{ mart.name }}{{ '
order by customer_id' if 'customer_id' in mart.columns }};
{% endif %}
{% endfor %}
{% for table in dropped if table not in readers.views %}
drop table if exists {{ copy }}.marts.{{ table }};
{% endfor %}
{% for view in readers.views %}
create or replace table {{ copy }}.marts.{{ view }} as
{{ readers.select_of(view) }}{{ '
order by customer_id' if 'customer_id' in ops.columns.get(view, ()) }};
{% endfor %}
{% include 'publish/publication_state.jinja' %}
