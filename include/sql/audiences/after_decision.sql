{#- Takes those out of a date's audiences who were suppressed since it was decided; nobody takes their place. -#}
{% import 'audiences/addresses.jinja' as addresses with context -%}
{% import 'audiences/members.jinja' as members with context -%}
{% set as_of = "cast('" ~ as_of_date ~ "' as date)" -%}
{% set hash = addresses.address_hash(addresses.normalised_address('profiles.email')) -%}
update ops.audience_memberships
set
    status = 'suppressed',
    reason = 'after decision',
    rank = null,
    entered = false,
    entered_on = null
where
    as_of_date = {{ as_of }}
    and status in ('exported', 'held_out')
    and customer_id in (
        with suppressions as (

            {{ members.suppressions(as_of, "cast('" ~ today ~ "' as date)") }}

        )

        select profiles.customer_id
        from marts.customer_360_profile as profiles
        where {{ members.is_suppressed('profiles.customer_id', hash) }}
    )
