{#- Of the customers who are eligible for a campaign: how many there are, with an address, whether all have the same
    one, and how many could be written to. -#}
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

addressed as (

    select profiles.address
    from memberships
    inner join profiles on memberships.customer_id = profiles.customer_id

),

final as (

    select
        count(*) as customers,
        count(address) as addresses,
        min(address) = max(address) as all_the_same,
        count(
            case
                when coalesce({{ addresses.address_problem('address') }}, '') not in ('no address', 'no valid address')
                    then 1
            end
        ) as valid_addresses
    from addressed

)

select * from final
