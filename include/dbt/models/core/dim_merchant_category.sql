with categories as (

    select * from {{ ref('merchant_categories') }}

),

final as (

    select
        cast(merchant_category as varchar) as merchant_category,
        cast(category_group as varchar) as category_group,
        category_group = 'travel' as is_travel,
        category_group = 'necessities' as is_necessity
    from categories

)

select * from final
