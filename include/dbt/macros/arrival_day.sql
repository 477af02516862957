{% macro arrival_day(ingested_at) -%}
    {#- The day by which raw is compared with what was loaded. Rows without a time of arrival are together on one day. -#}
    coalesce(cast(cast({{ ingested_at }} as timestamp) as date), cast('0001-01-01' as date))
{%- endmacro %}
