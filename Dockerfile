FROM astrocrpublic.azurecr.io/runtime:3.3-8-python-3.12

# The Dags are drawn from dbt's manifest: parsing the dbt project in a Dag file would cost every look at it seconds.
# The parse opens no warehouse and needs no credentials. One manifest serves both warehouses: the target decides only
# the names of databases in it, which the Dags do not read. A run on Snowflake parses anew, with its own variables.
RUN cd include/dbt && WAREHOUSE=duckdb AS_OF_DATE= RUN_SCHEMA= dbt parse --no-version-check
