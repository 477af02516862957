{#- On Snowflake every node asks this before its first statement (query_tag.sql). Target snowflake is the Dag's: it builds in
    core and in the run schema that it names, and publishes from there. Target dev is a person's: everything lands in schemas
    dev_<user>_..., and of production only raw and core are read, which is what the role may. -#}

{% macro keep_to_target() -%}
    {%- if model.resource_type in ('model', 'seed', 'snapshot') -%}
        {%- if target.name == 'dev' -%}
            {%- do keep_to_dev_schemas() -%}
            {%- do keep_to_readable_parents() -%}
        {%- else -%}
            {%- do keep_to_run_schema() -%}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{% macro keep_to_run_schema() -%}
    {%- set run_schema = env_var('RUN_SCHEMA', '') -%}
    {%- if not run_schema.startswith('marts_run_') -%}
        {{ exceptions.raise_compiler_error(
            model.name ~ " would be built in " ~ model.database ~ "." ~ model.schema ~ ": target " ~ target.name
            ~ " is the Dag's, which builds in a schema of each run (RUN_SCHEMA=marts_run_..., here '" ~ run_schema
            ~ "'), validates and publishes. Use target dev, which is what dbt takes without --target."
        ) }}
    {%- endif -%}
{%- endmacro %}

{% macro keep_to_dev_schemas() -%}
    {%- if model.database != target.database or not model.schema.startswith(target.schema ~ '_') -%}
        {{ exceptions.raise_compiler_error(
            model.name ~ " would be built in " ~ model.database ~ "." ~ model.schema ~ ": target dev builds in "
            ~ target.database ~ "." ~ target.schema ~ "_... only. Take the database or schema out of its configuration."
        ) }}
    {%- endif -%}
{%- endmacro %}

{% macro keep_to_readable_parents() -%}
    {%- for unique_id in model.depends_on.nodes if unique_id in graph.nodes and unique_id not in selected_resources
            and graph.nodes[unique_id].config.materialized != 'ephemeral' -%}
        {%- set parent = graph.nodes[unique_id] -%}
        {%- set built = adapter.get_relation(parent.database, parent.schema, parent.alias) is not none -%}
        {%- if parent.config.schema != 'core' and (invocation_args_dict.favor_state or not built) -%}
            {{ exceptions.raise_compiler_error(
                model.name ~ " reads " ~ parent.name ~ ", which is not in " ~ parent.database ~ "." ~ parent.schema
                ~ ": target dev reads raw and core of production, and builds all else itself, for one as_of_date. Select it "
                ~ "too: --select " ~ parent.name ~ " " ~ model.name
            ) }}
        {%- elif not built and not parent.defer_relation -%}
            {{ exceptions.raise_compiler_error(
                model.name ~ " reads " ~ parent.name ~ ", which is not in " ~ parent.database ~ "." ~ parent.schema
                ~ ", and dbt does not know production's. Give it production's manifest: docs/snowflake.md, "
                ~ "'Developing against Snowflake'."
            ) }}
        {%- endif -%}
    {%- endfor -%}
{%- endmacro %}
