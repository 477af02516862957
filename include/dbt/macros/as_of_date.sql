{% macro as_of_date() -%}
    {#- The last business day that counts, as a date literal. AS_OF_DATE decides; without it, yesterday in New York when
        dbt was started: a build that is under way at midnight stays on its day. While parsing, nothing depends on it and
        it is not read, so that another date does not parse the models again. -#}
    {%- set value = env_var('AS_OF_DATE', '') if execute else '1900-01-01' -%}
    {%- if value == '' -%}
        {%- set started = run_started_at.astimezone(modules.pytz.timezone('America/New_York')) -%}
        {%- set value = (started.date() - modules.datetime.timedelta(days=1)).isoformat() -%}
    {%- elif not modules.re.fullmatch('[0-9]{4}-[0-9]{2}-[0-9]{2}', value) -%}
        {{ exceptions.raise_compiler_error("AS_OF_DATE is '" ~ value ~ "': give a date as YYYY-MM-DD, or leave it empty for yesterday in New York") }}
    {%- endif -%}
    cast('{{ value }}' as date)
{%- endmacro %}
