select
    merchant_category,
    category_group,
    transactions,
    spend
from marts.customer_category_spend
where customer_id = ?
order by
    spend desc,
    merchant_category
