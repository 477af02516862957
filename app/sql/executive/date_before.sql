select max(as_of_date) as as_of_date
from marts.customer_360_history
where as_of_date <= ?
