{#- What a run changes in the history of its date: one row per customer and column with another value, and a row of
    column customer_id for a customer who appears or vanishes. None where history has no row of the date yet. Belongs
    into the transaction that replaces the date, before it does. -#}
insert into ops.restatements (as_of_date, customer_id, changed_column, before, after, dag_run_id, restated_at)
with earlier as (

    select * from marts.customer_360_history
    where as_of_date = cast('{{ as_of_date }}' as date)

),

later as (

    select * from {{ run_schema }}.customer_360_history

),

compared as (

    select
        earlier.customer_id as customer_id_before,
        {% for column in columns %}
        earlier.{{ column }} as {{ column }}_before,
        later.{{ column }} as {{ column }}_after,
        {% endfor %}
        later.customer_id as customer_id_after
    from earlier
    full outer join later on earlier.customer_id = later.customer_id

),

changes as (

    select
        coalesce(customer_id_before, customer_id_after) as customer_id,
        'customer_id' as changed_column,
        customer_id_before as before,
        customer_id_after as after
    from compared
    where customer_id_before is distinct from customer_id_after
    {% for column in columns %}
    union all
    select
        customer_id_after as customer_id,
        '{{ column }}' as changed_column,
        cast({{ column }}_before as varchar) as before,
        cast({{ column }}_after as varchar) as after
    from compared
    where
        customer_id_before = customer_id_after
        and {{ column }}_before is distinct from {{ column }}_after
    {% endfor %}

)

select
    cast('{{ as_of_date }}' as date) as as_of_date,
    customer_id,
    changed_column,
    before,
    after,
    {{ dag_run_literal }} as dag_run_id,
    cast('{{ restated_at }}' as timestamp) as restated_at
from changes
where (select count(*) from earlier) > 0
