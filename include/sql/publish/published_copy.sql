{#- What readers may see of one publication, as tables of `copy`, an attached file: marts without personal data, and
    what they see of schema ops. Marts that are not among `marts` stay as they are there. In the order of customers, so that
    a look-up reads few blocks. -#}
{% import 'publish/masked.jinja' as everybody -%}
{% import 'publish/ops_columns.jinja' as ops -%}
{% import 'publish/ops_views.jinja' as readers -%}
create schema if not exists {{ copy }}.marts;
{% for mart in marts %}
create or replace table {{ copy }}.marts.{{ mart.name }} as
select
    {{ everybody.masked(mart) }}
from marts.{{ mart.name }}{{ '
order by customer_id' if 'customer_id' in mart.columns }};
{% endfor %}
{% for view in readers.views %}
create or replace table {{ copy }}.marts.{{ view }} as
{{ readers.select_of(view) }}{{ '
order by customer_id' if 'customer_id' in ops.columns.get(view, ()) }};
{% endfor %}
{% include 'publish/publication_state.jinja' %}
