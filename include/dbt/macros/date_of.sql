{#- The business day of a transaction, in America/New_York, from what raw.transactions has in its column: null where it is no day. -#}

{% macro date_of(column, data_type) -%}
    {%- set type = data_type | upper -%}
    {%- if type.endswith('_NS') -%}
        {#- Of nanoseconds DuckDB's casts round the last half microsecond of a day up to the next one; of their text they do not. -#}
        {{ date_of_text('cast(' ~ column ~ ' as varchar)') }}
    {%- elif type.startswith(('TIMESTAMP_TZ', 'TIMESTAMP_LTZ', 'TIMESTAMPTZ', 'TIMESTAMP WITH TIME ZONE')) -%}
        cast({{ in_business_zone(column) }} as date)
    {%- elif type.startswith(('DATE', 'TIMESTAMP')) -%}
        cast({{ column }} as date)
    {%- else -%}
        {{ date_of_text('cast(' ~ column ~ ' as varchar)') }}
    {%- endif -%}
{%- endmacro %}

{% macro date_of_text(text) -%}
    {#- YYYY-MM-DD in ASCII digits, perhaps with a time of day, whose zone, if it has one, is converted; blanks around it. No other
        order or form of a date: what it means would be a guess, and not the same one on both engines. -#}
    {%- set day = '[0-9]{4}-[0-9]{2}-[0-9]{2}' -%}
    {%- set time = '[ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]{1,9})?)?' -%}
    {%- set zone = ' ?(Z|UTC|[+-](0[0-9]|1[0-4])(:?[0-5][0-9])?)' -%}
    case
            when {{ matches(text, '[[:space:]]*' ~ day ~ '(' ~ time ~ ')?[[:space:]]*') }}
                then try_cast(substr({{ trimmed(text) }}, 1, 10) as date)
            when {{ matches(text, '[[:space:]]*' ~ day ~ time ~ zone ~ '[[:space:]]*') }}
                then cast({{ in_business_zone('try_cast(' ~ with_full_zone(trimmed(text)) ~ ' as timestamptz)') }} as date)
        end
{%- endmacro %}

{% macro with_full_zone(text) -%}
    {#- 2026-03-31T23:30Z, ... 23:30 UTC, ... 23:30 -0400 and the like as 2026-03-31 23:30+00:00, which both engines read. -#}
    replace(
                        replace(
                            replace(
                                case
                                    when {{ text }} like '%Z' then replace({{ text }}, 'Z', '+00:00')
                                    when {{ text }} like '%UTC' then replace({{ text }}, 'UTC', '+00:00')
                                    when substr({{ text }}, length({{ text }}) - 2, 1) in ('+', '-') then {{ text }} || ':00'
                                    when substr({{ text }}, length({{ text }}) - 4, 1) in ('+', '-')
                                        then
                                            substr({{ text }}, 1, length({{ text }}) - 2)
                                            || ':'
                                            || substr({{ text }}, length({{ text }}) - 1)
                                    else {{ text }}
                                end,
                                'T',
                                ' '
                            ),
                            ' +',
                            '+'
                        ),
                        ' -',
                        '-'
                    )
{%- endmacro %}

{% macro in_business_zone(time) -%}
    {{ return(adapter.dispatch('in_business_zone')(time)) }}
{%- endmacro %}

{% macro default__in_business_zone(time) -%}
    timezone('America/New_York', {{ time }})
{%- endmacro %}

{% macro snowflake__in_business_zone(time) -%}
    convert_timezone('America/New_York', {{ time }})
{%- endmacro %}
