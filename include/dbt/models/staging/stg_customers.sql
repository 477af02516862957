with customers as (

    select * from {{ source('raw', 'customers') }}

),

final as (

    {{ current_customers('customers') }}

)

select * from final
