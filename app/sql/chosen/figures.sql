select
    {columns}
from marts.customer_360_profile as customer_360_profile
where
    {conditions}
