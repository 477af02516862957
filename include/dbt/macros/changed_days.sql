{#- Which days of arrival differ between raw and what was loaded, in either direction: rows that came, changed or went. -#}

{% macro changed_days(delivered, loaded) -%}
    select coalesce(delivered.arrival_day, loaded.arrival_day) as arrival_day
    from {{ delivered }} as delivered
    full outer join {{ loaded }} as loaded on delivered.arrival_day = loaded.arrival_day
    where
        (
            delivered.row_count is distinct from loaded.row_count
            or delivered.checksum is distinct from loaded.checksum
            or delivered.loading_rules is distinct from loaded.loading_rules
        )
        {%- if load_arrived_before() %}
        and {{ day_in_range('coalesce(delivered.arrival_day, loaded.arrival_day)') }}
        {%- endif %}
{%- endmacro %}

{% macro days_to_load(delivered, loaded, rejected, customers) -%}
    {% if loaded is none -%}
    select delivered.arrival_day from {{ delivered }} as delivered
    {%- else -%}
    {{ changed_days(delivered, loaded) }}
    {%- endif %}
    {%- if rejected is not none %}
    -- Turned away for want of a customer who is known by now, however long ago.
    union distinct
    select {{ arrival_day('rejected.ingested_at') }} as arrival_day
    from {{ rejected }} as rejected
    inner join {{ customers }} as customers on rejected.customer_id = customers.customer_id
    where
        rejected.reject_reason = 'unknown customer'
        {%- if load_arrived_before() %}
        and {{ arrived_in_range('rejected.ingested_at') }}
        {%- endif %}
    {%- endif %}
{%- endmacro %}

{#- Before the fact changes, the days about to be loaded stop counting as loaded: whatever ends the load early, the next one
    takes them again, even when raw has nothing of them any more. A full refresh forgets all (a hook of the fact); otherwise
    the incremental strategy leaves each of its days without a checksum, once the days that raw no longer has were read. -#}

{% macro forget_all_days() -%}
    {%- set loaded = loaded_days(this) if execute and not is_incremental() else none -%}
    {%- if loaded is not none -%}
        delete from {{ loaded }}
    {%- endif -%}
{%- endmacro %}

{% macro forget_days_to_load(delivered, loaded, rejected, customers) -%}
    {%- set forget -%}
        update {{ loaded }}
        set checksum = null
        where
            arrival_day in (
                select to_load.arrival_day
                from ({{ days_to_load(delivered, loaded, rejected, customers) }}) as to_load
            )
    {%- endset -%}
    {%- do run_query(forget) -%}
    {%- set begin -%}
        insert into {{ loaded }} (arrival_day)
        select to_load.arrival_day
        from ({{ days_to_load(delivered, loaded, rejected, customers) }}) as to_load
        where to_load.arrival_day not in (select loaded.arrival_day from {{ loaded }} as loaded)
    {%- endset -%}
    {%- do run_query(begin) -%}
{%- endmacro %}
