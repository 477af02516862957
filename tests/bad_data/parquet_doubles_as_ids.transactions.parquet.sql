select * from (values
    (5::double, 'c1', date '2026-03-02', 12.5),
    (10000000000000001::double, 'c1', date '2026-03-02', 12.5),
    (10000000000000000::double, 'c1', date '2026-03-02', 12.5)
) as delivered (transaction_id, customer_id, transaction_date, transaction_amount)
