{#- What campaign_results computes of the exact sums of a wave's two groups, in cents. `before` and `after` are the spend before and
    after of a customer; a group is `treated` or `held_out`. -#}

{% macro group_sums(group, condition) -%}
    {#- A group's customers, and the sums over them that means, variances and the covariance follow from: whole numbers. -#}
    {%- set products = {
        'before': 'spend_before', 'after': 'spend_after',
        'before_before': 'spend_before * spend_before', 'after_after': 'spend_after * spend_after',
        'before_after': 'spend_before * spend_after',
    } -%}
    cast(count(case when {{ condition }} then 1 end) as integer) as {{ group }}_customers
    {%- for name, product in products.items() %},
        cast(coalesce(sum(case when {{ condition }} then {{ product }} end), 0) as decimal(38, 0)) as {{ group }}_{{ name }}
    {%- endfor %}
{%- endmacro %}

{% macro spread(customers, product, one, other) -%}
    {#- customers * (customers - 1) times the sample covariance of one and other (the variance, if they are the same), exact: the
        sum of products is as large as what is subtracted from it, and a double would keep few of the digits that are left. -#}
    cast(cast({{ customers }} as decimal(38, 0)) * {{ product }} - {{ one }} * {{ other }} as double)
{%- endmacro %}

{% macro variance_of_mean(customers, spread) -%}
    {#- Square dollars, of a mean over so many customers; NULL for one customer. -#}
    {{ spread }}
        / nullif(cast({{ customers }} as double) * {{ customers }} * ({{ customers }} - 1), 0)
        / 10000
{%- endmacro %}

{% macro degrees_of_freedom(treated, held_out) -%}
    {#- Those of Welch and Satterthwaite, for the difference of two means with these variances; NULL when both are 0. -#}
    power({{ treated }} + {{ held_out }}, 2)
        / nullif(
            {{ treated }} * {{ treated }} / (treated_customers - 1) + {{ held_out }} * {{ held_out }} / (held_out_customers - 1), 0
        )
{%- endmacro %}

{% macro t_quantile(normal_quantile, degrees) -%}
    {#- The quantile of Student's t, from that of the normal distribution, in powers of 1 / degrees: neither engine has it. From 3
        degrees on right to 0.1 %, for 2 to 1 %; a group of two alone, with 1, comes out 11 % too narrow. -#}
    {%- set z = normal_quantile -%}
    {%- set terms = [
        (z ** 3 + z) / 4,
        (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96,
        (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / 384,
        (79 * z ** 9 + 776 * z ** 7 + 1482 * z ** 5 - 1920 * z ** 3 - 945 * z) / 92160,
    ] -%}
    {{ '%.15g' % z }}
        {%- for term in terms %}
        + cast({{ '%.15g' % term }} as double) / power({{ degrees }}, {{ loop.index }})
        {%- endfor %}
{%- endmacro %}

{% macro rounded(value, digits=4) -%}
    cast(round({{ value }}, {{ digits }}) as decimal(18, {{ digits }}))
{%- endmacro %}
