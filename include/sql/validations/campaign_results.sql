{#- Whether each wave's result is what its customers spent. Groups and sums come from the memberships and the fact; the estimates
    follow once more from the spend of each customer, by the engine's own variances. An empty mart is valid: no wave is old enough. -#}
{% import 'validations/checks.jinja' as validation with context -%}
{% set checks = {
    'results_one_row_per_wave_and_horizon': 'one row for each wave of ops.audience_memberships and horizon that is over, none besides',
    'results_customers_reconcile': 'treated and held out are the entrants of the wave who were exported and held out',
    'results_spend_reconciles': 'spend before and after is, to the cent, that of the entrants in core.fct_transactions, approved',
    'results_spend_per_customer_recomputes': 'spend per customer is spend / customers',
    'results_estimates_where_two': 'a lift exactly where both groups have two customers, an interval where their spend varies',
    'results_lift_recomputes': 'theta, lift and standard error follow from the spend of each customer before and after',
    'results_interval_recomputes': 'the interval lies around the lift, on each side as many standard errors as Student\'\'s t may have',
    'results_figures_agree': 'lift in %, significance, detectable and total effect follow from lift and interval',
    'results_stamped_with_as_of_date': 'every row has as_of_date ' ~ as_of_date,
} -%}
{#- `number` may be off by the last digits of `other`, which was not rounded, or of `scale`, what it was worked out of. -#}
{% macro off(number, other, scale=none) -%}
    coalesce(abs(cast({{ number }} as double) - {{ other }}) > 0.001 + 0.000001 * abs({{ scale or other }}), false)
{%- endmacro %}
{#- A quantile of Student's t is that of the normal distribution, or larger by a share that falls with the degrees of freedom;
    these are at least those of the smaller group. -#}
{% macro no_margin(margin, normal_quantile, standard_error) -%}
    not coalesce(
                {{ margin }} between {{ normal_quantile }} * {{ standard_error }} - 0.001
                and {{ normal_quantile }} * (1 + 6.0 / (least(mart.treated_customers, mart.held_out_customers) - 1))
                * {{ standard_error }} + 0.001,
                true
            )
{%- endmacro %}
{% set horizons = vars.campaign_horizon_days -%}
{% set groups = {'treated': 'treated', 'held_out': 'control'} -%}
{% set spends = ['treated_spend_before', 'held_out_spend_before', 'treated_spend_after', 'held_out_spend_after'] -%}

with mart as (

    select * from {{ run_schema }}.campaign_results

),

entries as (

    select
        campaign,
        as_of_date as wave_date,
        customer_id,
        split_group
    from ops.audience_memberships
    where
        entered
        and status in ('exported', 'held_out')

),

horizons as (
    {% for days in horizons %}
    select {{ days }} as horizon_days
    {{- "\n    union all" if not loop.last }}
    {%- endfor %}

),

customers as (

    select
        entries.campaign,
        entries.wave_date,
        horizons.horizon_days,
        entries.split_group,
        coalesce(
            sum(case when fact.transaction_date <= entries.wave_date then fact.transaction_amount end), 0
        ) as spend_before,
        coalesce(
            sum(case when fact.transaction_date > entries.wave_date then fact.transaction_amount end), 0
        ) as spend_after
    from entries
    inner join horizons on entries.wave_date + horizons.horizon_days <= {{ validation.as_of }}
    left join core.fct_transactions as fact
        on
            entries.customer_id = fact.customer_id
            and fact.status = 'approved'
            and entries.wave_date - horizons.horizon_days < fact.transaction_date
            and entries.wave_date + horizons.horizon_days >= fact.transaction_date
    group by
        entries.campaign,
        entries.wave_date,
        horizons.horizon_days,
        entries.split_group,
        entries.customer_id

),

slopes as (

    select
        campaign,
        wave_date,
        horizon_days,
        case
            when min(spend_before) = max(spend_before) then 0
            else covar_pop(cast(spend_after as double), cast(spend_before as double)) / var_pop(cast(spend_before as double))
        end as theta
    from customers
    group by
        campaign,
        wave_date,
        horizon_days

),

adjusted as (

    select
        customers.*,
        slopes.theta,
        cast(customers.spend_after as double) as plain,
        cast(customers.spend_after as double) - slopes.theta * customers.spend_before as adjusted
    from customers
    inner join slopes
        on
            customers.campaign = slopes.campaign
            and customers.wave_date = slopes.wave_date
            and customers.horizon_days = slopes.horizon_days

),

waves as (

    select
        campaign,
        wave_date,
        horizon_days,
        max(theta) as theta
        {%- for group, name in groups.items() %}
        {%- set of_group -%} case when split_group = '{{ name }}' then {%- endset %},
        count({{ of_group }} 1 end) as {{ group }}_customers,
        coalesce(sum({{ of_group }} spend_before end), 0) as {{ group }}_spend_before,
        coalesce(sum({{ of_group }} spend_after end), 0) as {{ group }}_spend_after,
        avg({{ of_group }} plain end) as {{ group }}_plain,
        avg({{ of_group }} adjusted end) as {{ group }}_adjusted,
        var_samp({{ of_group }} plain end) as {{ group }}_plain_variance,
        var_samp({{ of_group }} adjusted end) as {{ group }}_variance
        {%- endfor %}
    from adjusted
    group by
        campaign,
        wave_date,
        horizon_days

),

estimates as (

    select
        *,
        treated_plain - held_out_plain as plain_lift,
        treated_adjusted - held_out_adjusted as lift,
        sqrt(treated_plain_variance / treated_customers + held_out_plain_variance / held_out_customers)
            as plain_standard_error,
        sqrt(treated_variance / treated_customers + held_out_variance / held_out_customers) as standard_error
    from waves

),

occurrences as (

    select campaign, wave_date, horizon_days, 1 as in_mart, 0 as in_waves from mart
    union all
    select campaign, wave_date, horizon_days, 0 as in_mart, 1 as in_waves from waves

),

presence as (

    select
        campaign,
        wave_date,
        horizon_days,
        sum(in_mart) as in_mart,
        sum(in_waves) as in_waves
    from occurrences
    group by
        campaign,
        wave_date,
        horizon_days

),

faults as (

    select
        presence.campaign || ' ' || presence.wave_date || ' ' || presence.horizon_days as wave,
        presence.in_mart <> 1 or presence.in_waves <> 1 as results_one_row_per_wave_and_horizon,
        mart.treated_customers <> estimates.treated_customers
        or mart.held_out_customers <> estimates.held_out_customers as results_customers_reconcile,
        {% for spend in spends -%}
        mart.{{ spend }} <> estimates.{{ spend }}
        {{ "or " if not loop.last }}
        {%- endfor -%}
        as results_spend_reconciles,
        mart.campaign is not null
        and (
            {% for spend in spends -%}
            {{ validation.differs(
                'mart.' ~ spend ~ '_per_customer',
                validation.ratio('mart.' ~ spend, 'mart.' ~ spend.partition('_spend_')[0] ~ '_customers')
            ) }}
            {{ "or " if not loop.last }}
            {%- endfor %}
        ) as results_spend_per_customer_recomputes,
        mart.campaign is not null
        and (
            (mart.lift is null) <> (mart.treated_customers < 2 or mart.held_out_customers < 2)
            or (mart.lift is null) <> (mart.theta is null)
            or (mart.lift is null) <> (mart.plain_lift is null)
            or (mart.lift is null) <> (mart.lift_standard_error is null)
            or (mart.lift is null and mart.lift_low is not null)
            or (mart.lift_low is null and estimates.standard_error > 0.001)
            or (mart.plain_lift_low is null and estimates.plain_standard_error > 0.001)
        ) as results_estimates_where_two,
        {{ off('mart.theta', 'estimates.theta') }}
        or {{ off('mart.lift', 'estimates.lift') }}
        or {{ off('mart.plain_lift', 'estimates.plain_lift') }}
        or {{ off('mart.lift_standard_error', 'estimates.standard_error') }}
        or {{ off(
            'mart.variance_reduction_pct',
            '100 * (1 - power(estimates.standard_error / nullif(estimates.plain_standard_error, 0), 2))'
        ) }} as results_lift_recomputes,
        {{ off('mart.lift_low + mart.lift_high', 'cast(2 * mart.lift as double)') }}
        or {{ off('mart.plain_lift_low + mart.plain_lift_high', 'cast(2 * mart.plain_lift as double)') }}
        or {{ no_margin('mart.lift - mart.lift_low', 1.959964, 'mart.lift_standard_error') }}
        or {{ no_margin('mart.plain_lift - mart.plain_lift_low', 1.959964, 'estimates.plain_standard_error') }}
            as results_interval_recomputes,
        mart.campaign is not null
        and (
            {{ off(
                'cast(mart.lift_pct as double) * mart.held_out_spend_after_per_customer / 100',
                'mart.lift',
                'mart.held_out_spend_after_per_customer + abs(mart.lift)'
            ) }}
            or (mart.lift_pct is null) <> (mart.lift is null or mart.held_out_spend_after = 0)
            or (mart.is_significant is null) <> (mart.lift_low is null)
            or coalesce(mart.is_significant and mart.lift_low < 0 and mart.lift_high > 0, false)
            or coalesce(not mart.is_significant and (mart.lift_low > 0 or mart.lift_high < 0), false)
            or {{ no_margin(
                'mart.minimum_detectable_effect - (mart.lift - mart.lift_low)', 0.841621, 'mart.lift_standard_error'
            ) }}
            {%- for bound in ('', '_low', '_high') %}
            or coalesce(
                abs(mart.total_effect{{ bound }} - mart.lift{{ bound }} * mart.treated_customers)
                > 0.01 + 0.0001 * mart.treated_customers,
                (mart.total_effect{{ bound }} is null) <> (mart.lift{{ bound }} is null)
            )
            {%- endfor %}
        ) as results_figures_agree,
        mart.campaign is not null
        and mart.as_of_date is distinct from {{ validation.as_of }} as results_stamped_with_as_of_date
    from presence
    left join mart
        on
            presence.campaign = mart.campaign
            and presence.wave_date = mart.wave_date
            and presence.horizon_days = mart.horizon_days
    left join estimates
        on
            presence.campaign = estimates.campaign
            and presence.wave_date = estimates.wave_date
            and presence.horizon_days = estimates.horizon_days

),

tally as (

    {{ validation.tally('faults', checks, 'wave') }}

),

final as (

    {{ validation.fault_checks('tally', checks, 'waves') }}

)

{{ validation.results({'faults': ('wave', checks)}) }}
