{{ config(schema=run_schema('marts')) }}

{% set horizons = var('campaign_horizon_days') %}
{% set groups = {'treated': "split_group = 'treated'", 'held_out': "split_group = 'control'"} %}
-- Quantiles of the normal distribution: of the interval, 97.5 %, and of the power of the minimum detectable effect, 80 %.
{% set of_interval, of_power = 1.959963984540054, 0.8416212335729143 %}

with entries as (

    select * from {{ ref('fct_campaign_entries') }}

),

transactions as (

    select * from {{ ref('fct_transactions') }}

),

due as (

    select
        campaign,
        wave_date,
        customer_id,
        split_group
    from entries
    where wave_date <= {{ days_before_as_of(horizons | min) }}

),

spend as (

    select
        due.campaign,
        due.wave_date,
        due.customer_id
        {%- for days in horizons %},
        sum(
            case
                when
                    transactions.transaction_date > due.wave_date - {{ days }}
                    and transactions.transaction_date <= due.wave_date
                    then transactions.transaction_amount
            end
        ) as spend_before_{{ days }},
        sum(
            case
                when
                    transactions.transaction_date > due.wave_date
                    and transactions.transaction_date <= due.wave_date + {{ days }}
                    then transactions.transaction_amount
            end
        ) as spend_after_{{ days }}
        {%- endfor %}
    from due
    inner join transactions
        on
            due.customer_id = transactions.customer_id
            and due.wave_date - {{ horizons | max }} < transactions.transaction_date
            and due.wave_date + {{ horizons | max }} >= transactions.transaction_date
    where transactions.status = 'approved'
    group by
        due.campaign,
        due.wave_date,
        due.customer_id

),

-- In cents, for each horizon that is over.
customers as (
    {% for days in horizons %}
    select
        due.campaign,
        due.wave_date,
        {{ days }} as horizon_days,
        due.split_group,
        {{ cents('coalesce(spend.spend_before_' ~ days ~ ', 0)') }} as spend_before,
        {{ cents('coalesce(spend.spend_after_' ~ days ~ ', 0)') }} as spend_after
    from due
    left join spend
        on
            due.campaign = spend.campaign
            and due.wave_date = spend.wave_date
            and due.customer_id = spend.customer_id
    where due.wave_date <= {{ days_before_as_of(days) }}
    {{- "\n    union all" if not loop.last }}
    {%- endfor %}

),

sums as (

    select
        campaign,
        wave_date,
        horizon_days,
        {% for group, condition in groups.items() -%}
        {{ group_sums(group, condition) }}
        {{- ",\n        " if not loop.last }}
        {%- endfor %}
    from customers
    group by
        campaign,
        wave_date,
        horizon_days

),

-- From here on doubles, each worked out of whole numbers. Waves with a group of fewer than two have no variance, and drop out.
spreads as (

    select
        campaign,
        wave_date,
        horizon_days,
        treated_customers,
        held_out_customers,
        cast(
            treated_after * held_out_customers - held_out_after * treated_customers as double
        ) / (cast(treated_customers as double) * held_out_customers) / 100 as plain_lift,
        cast(
            treated_before * held_out_customers - held_out_before * treated_customers as double
        ) / (cast(treated_customers as double) * held_out_customers) / 100 as difference_before,
        {% for group in groups -%}
        {%- for one, other in (('before', 'before'), ('after', 'after'), ('before', 'after')) -%}
        {%- set both = one ~ '_' ~ other -%}
        {{ spread(group ~ '_customers', group ~ '_' ~ both, group ~ '_' ~ one, group ~ '_' ~ other) }} as {{ group }}_{{ both }},
        {% endfor -%}
        {%- endfor -%}
        {{ spread(
            '(treated_customers + held_out_customers)', '(treated_before_before + held_out_before_before)',
            '(treated_before + held_out_before)', '(treated_before + held_out_before)'
        ) }} as all_before_before,
        {{ spread(
            '(treated_customers + held_out_customers)', '(treated_before_after + held_out_before_after)',
            '(treated_before + held_out_before)', '(treated_after + held_out_after)'
        ) }} as all_before_after
    from sums
    where treated_customers >= 2 and held_out_customers >= 2

),

-- How much of the spend before is taken off the spend after. Nothing, where all spent the same before.
adjusted as (

    select
        *,
        coalesce(all_before_after / nullif(all_before_before, 0), 0) as theta
    from spreads

),

-- What is left of large numbers subtracted from each other is no variance.
variances as (

    select
        *,
        {% for group in groups -%}
        {{ variance_of_mean(group ~ '_customers', group ~ '_after_after') }} as {{ group }}_plain_variance,
        {% set left -%}
        {{ group }}_after_after - 2 * theta * {{ group }}_before_after + theta * theta * {{ group }}_before_before
        {%- endset -%}
        {{ variance_of_mean(
            group ~ '_customers',
            'case when ' ~ left ~ ' > 0.000000000001 * ' ~ group ~ '_after_after then ' ~ left ~ ' else 0 end'
        ) }} as {{ group }}_variance
        {{- ",\n        " if not loop.last }}
        {%- endfor %}
    from adjusted

),

errors as (

    select
        *,
        plain_lift - theta * difference_before as lift,
        sqrt(treated_variance + held_out_variance) as standard_error,
        sqrt(treated_plain_variance + held_out_plain_variance) as plain_standard_error,
        {{ degrees_of_freedom('treated_variance', 'held_out_variance') }} as degrees,
        {{ degrees_of_freedom('treated_plain_variance', 'held_out_plain_variance') }} as plain_degrees
    from variances

),

estimates as (

    select
        *,
        standard_error * ({{ t_quantile(of_interval, 'degrees') }}) as margin,
        plain_standard_error * ({{ t_quantile(of_interval, 'plain_degrees') }}) as plain_margin,
        standard_error * ({{ t_quantile(of_power, 'degrees') }}) as margin_of_power
    from errors

),

final as (

    select
        sums.campaign,
        sums.wave_date,
        cast(sums.horizon_days as integer) as horizon_days,
        sums.treated_customers,
        sums.held_out_customers,
        {% for group in groups -%}
        {%- for time in ('before', 'after') -%}
        cast(sums.{{ group }}_{{ time }} * 0.01 as decimal(18, 2)) as {{ group }}_spend_{{ time }},
        {{ ratio('sums.' ~ group ~ '_' ~ time, '100 * cast(sums.' ~ group ~ '_customers as double)') }}
            as {{ group }}_spend_{{ time }}_per_customer,
        {% endfor -%}
        {%- endfor -%}
        {{ rounded('estimates.plain_lift') }} as plain_lift,
        {{ rounded('estimates.plain_lift - estimates.plain_margin') }} as plain_lift_low,
        {{ rounded('estimates.plain_lift + estimates.plain_margin') }} as plain_lift_high,
        {{ rounded('estimates.theta') }} as theta,
        {{ ratio(
            'power(estimates.plain_standard_error, 2) - power(estimates.standard_error, 2)',
            'power(estimates.plain_standard_error, 2)',
            100
        ) }} as variance_reduction_pct,
        {{ rounded('estimates.lift') }} as lift,
        {{ rounded('estimates.lift - estimates.margin') }} as lift_low,
        {{ rounded('estimates.lift + estimates.margin') }} as lift_high,
        {{ rounded('estimates.standard_error') }} as lift_standard_error,
        {{ ratio('estimates.lift', 'sums.held_out_after / (100 * cast(sums.held_out_customers as double))', 100) }} as lift_pct,
        estimates.lift - estimates.margin > 0 or estimates.lift + estimates.margin < 0 as is_significant,
        {{ rounded('estimates.margin + estimates.margin_of_power') }} as minimum_detectable_effect,
        {{ rounded('estimates.lift * estimates.treated_customers', 2) }} as total_effect,
        {{ rounded('(estimates.lift - estimates.margin) * estimates.treated_customers', 2) }} as total_effect_low,
        {{ rounded('(estimates.lift + estimates.margin) * estimates.treated_customers', 2) }} as total_effect_high,
        {{ as_of_date() }} as as_of_date
    from sums
    left join estimates
        on
            sums.campaign = estimates.campaign
            and sums.wave_date = estimates.wave_date
            and sums.horizon_days = estimates.horizon_days

)

select * from final
