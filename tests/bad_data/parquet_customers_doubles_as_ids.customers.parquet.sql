select * from (values (5::double, 41), (6, 38)) as delivered (customer_id, age)
