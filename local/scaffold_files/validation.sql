{% import 'validations/checks.jinja' as validation with context -%}
{#- Fill in: what must be true of the mart, each check by a name of its own and what is expected. -#}
{% set checks = {
    '${column}_one_row_per_customer': 'one row for every customer of int_customers, none besides',
    '${column}_covers_existing_customers': 'exactly the customers of core.dim_customer that exist at as_of_date',
    '${column}_reconciles': '$column is what core.fct_transactions gives, approved',
} -%}

with mart as (

    select * from {{ run_schema }}.$name

),

-- Fill in: the metric once more, from the fact and not from what the model reads. The customers with a transaction by
-- as_of_date stand here in any case, for `presence` below.
active as (

    select
        customer_id,
        sum(transaction_amount) as lifetime_value,
        sum(case when transaction_date > {{ validation.as_of }} - {{ vars.spend_window_days }} then transaction_amount else 0 end)
            as spend_last_90_days
    from core.fct_transactions
    where
        status = 'approved'
        and transaction_date <= {{ validation.as_of }}
    group by customer_id

),

{{ validation.presence() }},

{{ validation.drift_of_measures() }},

-- Fill in: one boolean column per check, true where a row is at fault.
faults as (

    select
        presence.customer_id,
        presence.in_mart <> presence.in_customers or presence.in_mart > 1 as ${column}_one_row_per_customer,
        (presence.in_mart > 0) <> (presence.in_existing > 0) as ${column}_covers_existing_customers,
        mart.customer_id is not null
        and {{ validation.differs(
            'mart.$column', validation.ratio('active.spend_last_90_days', 'active.lifetime_value', 100)
        ) }} as ${column}_reconciles
    from presence
    left join mart on presence.customer_id = mart.customer_id
    left join active on presence.customer_id = active.customer_id

),

tally as (

    {{ validation.tally('faults', checks) }}

),

final as (

    {{ validation.fault_checks('tally', checks) }}
    union all
    {{ validation.stamp_check('${column}_stamped_with_as_of_date') }}
    {{ validation.drift_checks('$column') }}

)

{{ validation.results({'faults': ('customer_id', checks)}) }}
