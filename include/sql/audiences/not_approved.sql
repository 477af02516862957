{#- Takes everybody out of an audience that a person did not let through: it went to nobody, and counts as no
    contact. -#}
update ops.audience_memberships
set
    status = 'suppressed',
    reason = 'not approved',
    rank = null,
    entered = false,
    entered_on = null
where
    campaign = '{{ campaign.name }}'
    and as_of_date = cast('{{ as_of_date }}' as date)
    and status in ('exported', 'held_out')
