{#- The names and addresses of one publication, as the one table of `copy`, an attached file that is for its user
    alone. -#}
create schema {{ copy }}.marts;

create table {{ copy }}.marts.customer_contacts as
select {{ (['customer_id'] + (profile.personal_columns | list)) | join(', ') }}
from marts.{{ profile.name }}
order by customer_id;
{% include 'publish/publication_state.jinja' %}
