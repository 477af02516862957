{#- Of the customers who are eligible for a campaign: how many there are, with an address, whether all have the same
    one (1; else 2), and whether any could be written to (1; else 0). Of millions of addresses it looks at no more
    than it needs to. -#}
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

one_valid as (

    select address
    from addressed
    where
        address is not null
        and coalesce({{ addresses.address_problem('address') }}, '') <> 'no valid address'
    limit 1

),

counted as (

    select
        count(*) as customers,
        count(address) as addresses,
        case when min(address) = max(address) then 1 else 2 end as distinct_addresses
    from addressed

),

final as (

    select
        counted.customers,
        counted.addresses,
        counted.distinct_addresses,
        (select count(*) from one_valid) as valid_addresses
    from counted

)

select * from final
