-- The view itself is read: of a CTE that is read more than once DuckDB would hold all rows with all columns.
with final as (

    {{ latest_ingested(ref('stg_transaction_rows'), 'reject_reason is null') }}

)

select * from final
