{#- Of the customers who are eligible for a campaign: how many there are, with an address, different ones, and such that could be
    written to. -#}
{% import 'audiences/addresses.jinja' as addresses with context -%}
with memberships as (

    select customer_id
    from ops.audience_memberships
    where
        campaign = '{{ campaign.name }}'
        and as_of_date = cast('{{ as_of_date }}' as date)

),

profiles as (

    select
        customer_id,
        {{ addresses.normalised_address('email') }} as address
    from marts.customer_360_profile

),

final as (

    select
        count(*) as customers,
        count(profiles.address) as addresses,
        count(distinct profiles.address) as distinct_addresses,
        count(
            case
                when profiles.address is not null and coalesce({{ addresses.address_problem('profiles.address') }}, '') <> 'no valid address'
                    then 1
            end
        ) as valid_addresses
    from memberships
    inner join profiles on memberships.customer_id = profiles.customer_id

)

select * from final
