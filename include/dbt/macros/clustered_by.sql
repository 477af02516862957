{% macro clustered_by(column) -%}
    {#- What cluster_by takes: the column where SNOWFLAKE_CLUSTERING is on, and nothing otherwise. A clustering key has Snowflake
        sort for ever, on its own account and outside of the resource monitors; rows arrive nearly in order. -#}
    {%- set clustering = env_var('SNOWFLAKE_CLUSTERING', '') or 'off' -%}
    {%- if clustering not in ('on', 'off') -%}
        {{ exceptions.raise_compiler_error("SNOWFLAKE_CLUSTERING is '" ~ clustering ~ "': give on or off, or leave it empty for off") }}
    {%- endif -%}
    {{ return([column] if clustering == 'on' else none) }}
{%- endmacro %}
