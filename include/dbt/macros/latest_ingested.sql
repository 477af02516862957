{% macro latest_ingested(relation, condition='true') -%}
    {#- One row per transaction_id: the latest ingested, and of those the last in its file. Every other column breaks
        the tie, so that a rerun keeps the same row. Only the few repeated transactions are sorted: sorting all takes longer than all the rest of the load. Which are
        repeated is asked of all rows with an id: to see whether each meets the condition costs more than to rank a few more. -#}
    with repeated as (

        select transaction_id
        from {{ relation }}
        where transaction_id is not null
        group by transaction_id
        having count(*) > 1

    ),

    ranked as (

        select
            *,
            row_number() over (
                partition by transaction_id
                order by
                    ingested_at desc nulls last,
                    source_row desc nulls last,
                    transaction_date desc,
                    transaction_amount desc,
                    customer_id asc,
                    status asc nulls last,
                    merchant_category asc,
                    merchant_name asc nulls last,
                    channel asc nulls last
            ) as version_rank
        from {{ relation }}
        where {{ condition }} and transaction_id in (select repeated.transaction_id from repeated)

    )

    select
        {{ transaction_columns() }}
    from {{ relation }}
    where {{ condition }} and transaction_id not in (select repeated.transaction_id from repeated)
    union all
    select
        {{ transaction_columns() }}
    from ranked
    where version_rank = 1
{%- endmacro %}
