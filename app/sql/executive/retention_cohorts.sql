-- Of the customers whose first month was the cohort's, the share that spent in each later month.
with months as (

    select
        customer_id,
        month,
        month_number,
        monthly_spend
    from marts.metric_mom_spend_change

),

first_months as (

    select
        customer_id,
        month as cohort
    from months
    where month_number = 1

),

final as (

    select
        first_months.cohort,
        months.month_number - 1 as months_later,
        count(*) as customers,
        round(avg(case when months.monthly_spend > 0 then 100.0 else 0 end), 1) as still_spending_pct
    from months
    inner join first_months
        on months.customer_id = first_months.customer_id
    group by
        first_months.cohort,
        months.month_number - 1

)

select
    cohort,
    months_later,
    customers,
    still_spending_pct
from final
order by
    cohort,
    months_later
