{#- LOAD_ARRIVED_BEFORE, a day: this load takes nothing that arrived on it or later, and leaves alone what was loaded of those
    days. A long history is loaded so in ranges, each in statements of bearable length; see deploy/load_history.py. -#}

{% macro load_arrived_before() -%}
    {#- The day, none without one. Nothing depends on it while dbt parses, and it is not read. -#}
    {%- set day = env_var('LOAD_ARRIVED_BEFORE', '') if execute else '' -%}
    {%- if day and not modules.re.fullmatch('[0-9]{4}-[0-9]{2}-[0-9]{2}', day) -%}
        {{ exceptions.raise_compiler_error("LOAD_ARRIVED_BEFORE is '" ~ day ~ "': give a date as YYYY-MM-DD, or leave it empty to load everything") }}
    {%- endif -%}
    {{ return(day or none) }}
{%- endmacro %}

{% macro arrived_in_range(ingested_at) -%}
    {#- A condition that holds for what arrived before the day, and always without one; a literal, which skips the rest. -#}
    {%- set day = load_arrived_before() -%}
    {{ return('1 = 1' if day is none else '(' ~ ingested_at ~ ' is null or ' ~ ingested_at ~ " < cast('" ~ day ~ "' as timestamp))") }}
{%- endmacro %}

{% macro day_in_range(arrival_day) -%}
    {%- set day = load_arrived_before() -%}
    {{ return('1 = 1' if day is none else arrival_day ~ " < cast('" ~ day ~ "' as date)") }}
{%- endmacro %}
