FROM astrocrpublic.azurecr.io/runtime:3.3-8-python-3.12

# The Dags render the dbt project from its manifest: parsing at start-up would take seconds for every Dag parse.
RUN cd include/dbt && dbt parse --no-version-check
