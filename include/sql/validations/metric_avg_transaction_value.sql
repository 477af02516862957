{% import 'validations/checks.jinja' as validation with context -%}
{#- So many customers are computed again from the fact: a wrong formula or an old build shows in any of them. -#}
{% set sampled_customers = 1000 -%}
{% set checks = {
    'atv_one_row_per_customer': 'one row for every customer of int_customers, none besides',
    'atv_covers_existing_customers': 'exactly the customers of core.dim_customer that exist at as_of_date',
    'atv_average_recomputes': 'avg_transaction_value is lifetime_value / total_transactions',
    'atv_values_ordered': 'min <= median <= max and min <= average <= max, all four or none',
    'atv_stddev_null_below_two': 'transaction_value_stddev is NULL exactly below two transactions',
    'atv_consistency_null_without_stddev': 'spending_consistency is NULL exactly without transaction_value_stddev',
    'atv_consistency_in_bounds': 'Consistent below a stddev of ' ~ vars.consistent_stddev
        ~ ', Variable from ' ~ vars.moderate_stddev ~ ' on, Moderate between',
    'atv_segment_agrees': 'customer_segment is that of customer_segments',
} -%}
{% set consistency_bounds = {
    'Consistent': 'mart.transaction_value_stddev < ' ~ vars.consistent_stddev,
    'Moderate': 'mart.transaction_value_stddev >= ' ~ vars.consistent_stddev
        ~ ' and mart.transaction_value_stddev < ' ~ vars.moderate_stddev,
    'Variable': 'mart.transaction_value_stddev >= ' ~ vars.moderate_stddev,
} -%}
{% set sample_checks = {
    'atv_sample_reconciles': 'average, deviation, min, max and median are those of core.fct_transactions, approved',
} -%}
{% set value_columns = (
    'avg_transaction_value', 'min_transaction_value', 'max_transaction_value', 'median_transaction_value',
) -%}

with mart as (

    select * from {{ run_schema }}.metric_avg_transaction_value

),

segments as (

    select * from {{ run_schema }}.customer_segments

),

active as (

    select * from {{ run_schema }}.int_customer_transactions

),

{{ validation.presence() }},

faults as (

    select
        presence.customer_id,
        presence.in_mart <> presence.in_customers or presence.in_mart > 1 as atv_one_row_per_customer,
        (presence.in_mart > 0) <> (presence.in_existing > 0) as atv_covers_existing_customers,
        mart.customer_id is not null
        and {{ validation.differs(
            'mart.avg_transaction_value', validation.ratio('active.lifetime_value', 'active.total_transactions')
        ) }} as atv_average_recomputes,
        mart.customer_id is not null
        and not coalesce(
            {{ validation.at_most('mart.min_transaction_value', 'mart.median_transaction_value') }}
            and {{ validation.at_most('mart.median_transaction_value', 'mart.max_transaction_value') }}
            and {{ validation.at_most('mart.min_transaction_value', 'mart.avg_transaction_value') }}
            and {{ validation.at_most('mart.avg_transaction_value', 'mart.max_transaction_value') }},
            coalesce(
                mart.min_transaction_value,
                mart.median_transaction_value,
                mart.avg_transaction_value,
                mart.max_transaction_value
            ) is null
        ) as atv_values_ordered,
        mart.customer_id is not null
        and (mart.transaction_value_stddev is null) <> (coalesce(active.total_transactions, 0) < 2)
            as atv_stddev_null_below_two,
        (mart.spending_consistency is null) <> (mart.transaction_value_stddev is null)
            as atv_consistency_null_without_stddev,
        mart.spending_consistency is not null
        and {{ validation.out_of_bounds('mart.spending_consistency', consistency_bounds) }} as atv_consistency_in_bounds,
        mart.customer_id is not null
        and mart.customer_segment is distinct from segments.customer_segment as atv_segment_agrees
    from presence
    left join mart on presence.customer_id = mart.customer_id
    left join active on presence.customer_id = active.customer_id
    left join segments on presence.customer_id = segments.customer_id

),

tally as (

    {{ validation.tally('faults', checks) }}

),

sampled as (

    select *
    from mart
    order by customer_id
    limit {{ sampled_customers }}

),

sample_values as (

    select
        customer_id,
        avg(cast(transaction_amount as double)) as avg_transaction_value,
        stddev_samp(cast(transaction_amount as double)) as transaction_value_stddev,
        cast(min(transaction_amount) as double) as min_transaction_value,
        cast(max(transaction_amount) as double) as max_transaction_value,
        median(cast(transaction_amount as double)) as median_transaction_value
    from core.fct_transactions
    where
        status = 'approved'
        and transaction_date <= {{ validation.as_of }}
        and customer_id in (select sampled.customer_id from sampled)
    group by customer_id

),

sample_faults as (

    select
        sampled.customer_id,
        {%- for column in value_columns %}
        {{ validation.differs('sampled.' ~ column, 'sample_values.' ~ column) }} or
        {%- endfor %}
        {{ validation.deviation_differs(
            'sampled.transaction_value_stddev', 'sample_values.transaction_value_stddev', 'sample_values.max_transaction_value'
        ) }}
            as atv_sample_reconciles
    from sampled
    left join sample_values on sampled.customer_id = sample_values.customer_id

),

sample_tally as (

    {{ validation.tally('sample_faults', sample_checks) }}

),

final as (

    {{ validation.fault_checks('tally', checks) }}
    union all
    {{ validation.fault_checks('sample_tally', sample_checks) }}
    union all
    {{ validation.stamp_check('atv_stamped_with_as_of_date') }}

)

{{ validation.results({'faults': ('customer_id', checks), 'sample_faults': ('customer_id', sample_checks)}) }}
