{#- Which days of arrival differ between raw and what was loaded, in either direction: rows that came, changed or went. -#}

{% macro changed_days(delivered, loaded) -%}
    select coalesce(delivered.arrival_day, loaded.arrival_day) as arrival_day
    from {{ delivered }} as delivered
    full outer join {{ loaded }} as loaded on delivered.arrival_day = loaded.arrival_day
    where
        delivered.row_count is distinct from loaded.row_count
        or delivered.checksum is distinct from loaded.checksum
        or delivered.loading_rules is distinct from loaded.loading_rules
{%- endmacro %}

{% macro transactions_to_load(delivered, loaded, rejected, customers) -%}
    {#- 'nothing', those of the 'changed' days, or 'all', when no day is as it was loaded. -#}
    {%- if not execute or loaded is none -%}
        {{ return('all') }}
    {%- endif -%}
    {%- set changed = run_query('select count(*) from (' ~ changed_days(delivered, loaded) ~ ') as changed') -%}
    {%- set changed = changed.columns[0].values()[0] -%}
    {%- set unchanged -%}
        select count(*)
        from {{ delivered }} as delivered
        inner join {{ loaded }} as loaded
            on
                delivered.arrival_day = loaded.arrival_day
                and delivered.row_count = loaded.row_count
                and delivered.checksum = loaded.checksum
                and delivered.loading_rules = loaded.loading_rules
    {%- endset -%}
    {%- if run_query(unchanged).columns[0].values()[0] == 0 -%}
        {{ return('all') }}
    {%- elif changed > 0 -%}
        {{ return('changed') }}
    {%- elif rejected is not none -%}
        {%- set came = run_query('select count(*) from (' ~ customer_has_come(rejected, customers) ~ ') as came') -%}
        {{ return('changed' if came.columns[0].values()[0] > 0 else 'nothing') }}
    {%- endif -%}
    {{ return('nothing') }}
{%- endmacro %}

{% macro customer_has_come(rejected, customers) -%}
    {#- Transactions turned away for want of a customer who is known by now. -#}
    select rejected.transaction_id
    from {{ rejected }} as rejected
    inner join {{ customers }} as customers on rejected.customer_id = customers.customer_id
    where rejected.reject_reason = 'unknown customer'
{%- endmacro %}

{#- Before the fact changes, the days about to be loaded stop counting as loaded: whatever ends the load early, the next one
    takes them again. A full refresh forgets all (a hook of the fact); otherwise it is the incremental strategy that forgets
    them, once the days that raw no longer has were read. -#}

{% macro forget_all_days() -%}
    {%- set loaded = loaded_days(this) if execute and not is_incremental() else none -%}
    {%- if loaded is not none -%}
        delete from {{ loaded }}
    {%- endif -%}
{%- endmacro %}

{% macro forget_changed_days(delivered, loaded) -%}
    delete from {{ loaded }}
    where arrival_day in (select changed.arrival_day from ({{ changed_days(delivered, loaded) }}) as changed)
{%- endmacro %}
