"""Exports the campaigns' audiences from the published marts, once they are published.

A campaign is a dbt exposure with `config.meta.campaign`, plus a template in include/sql/exports/ where that does not
say all of it.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param, PartitionedAssetTimetable, chain

from include.customer_360.alerts import tell_failure, tell_success
from include.customer_360.assets import PUBLISHED
from include.customer_360.catalog import load_catalog
from include.customer_360.failures import keep_reason
from include.customer_360.operators.approval import ApproveAudienceOperator
from include.customer_360.operators.audiences import DecideAudiencesOperator, ValidateAudiencesOperator
from include.customer_360.operators.export import ExportAudienceOperator
from include.customer_360.operators.export_log import LogExportsOperator
from include.customer_360.operators.started import keep_start
from include.customer_360.settings import POOL, TEMPLATE_FOLDERS, load_settings

DOC = """
### campaign_exports

Writes one audience per campaign to `EXPORT_ROOT/<campaign>/as_of_date=YYYY-MM-DD/`: `audience.csv`, then
`manifest.json` (row count, sha256, columns, id of the warehouse). Use an audience only when its manifest stands beside
it and the sha256 is that of the CSV.

A text that a spreadsheet would run as a formula has a single quote before it: one that begins with `=`, `+`, `-` or
`@`, also in full width or after blanks, or with a tab or line break; and one that begins with a single quote. Numbers
stay as they are. A program takes one quote off each text that begins with one.

Runs after each publication by `customer_360_refresh`, for the date that was published. A manual run exports what is
published, and fails or is skipped when that is not the `as_of_date` it asks for. Exporting a date again replaces its
files.

### When an export fails or is skipped

Its owner, the team named on the task, waits for the file; the other campaigns are not affected. The log says:

- *The published marts are of X, newer than Y* (skipped). Newer marts were published before this run came to read.
  Nothing to do: the newer publication has a run of its own.
- *The published marts are of X, older than Y*. The run asks for a date that was never published.
  Run `customer_360_refresh` for Y; it starts this export.
- *needs marts.customer_360_profile*. Nothing was ever published here, or not by `customer_360_refresh`. Run it.
- *The warehouse ... is not there*, *is damaged*. Connection `warehouse` names a DuckDB file that is missing or cannot
  be read. Put it back, or restore a backup as docs/backup.md says; then clear the task.
- *The warehouse ... is in use by ...*. That program, outside pool `warehouse`, has the DuckDB file open. Each of three
  tries waits as long as `WAREHOUSE_LOCK_WAIT` says; close it and clear the task when that was not enough.
- *cannot be written under the export root*. The folder or bucket is missing, full or forbidden, or the bucket's
  provider is not installed; the reason is in the log of each try. Correct `EXPORT_ROOT` or the rights on it, then
  clear the task.
- *is not exported: ... is masked*, *... are the same address*, *none of the ... values in email is an address*, *email
  is empty for all*. The audience does not hold whom it claims. As a rule the role of connection `warehouse_export` is
  not one to which the masking policy shows personal data: name the exports' role in it and run `make snowflake-setup`.
  Otherwise the sources have it so. Nothing was written; the earlier audience of that date stays.
- *... is of warehouse ..., and this warehouse is ...*. Another warehouse exports to the same `EXPORT_ROOT`, or this one
  was made anew. Give each its own root; where both should be one, move the folder away. Then clear the task.
- *was published anew while it was read*. The task retries by itself.
- *as_of_date ... is no date*, *... is not over yet*, *The run has partition key ... and asks for as_of_date ...*. The
  run cannot be for that date. Run again with one date, as the log says.
- *The audience ... is empty* (a warning, the task succeeds). Nobody qualifies: the file has its header only. The
  warning says how many customers meet which condition. Ask the owner whether that can be.
- *Nobody in marts.customer_360_profile has a value in email* (a warning, the task succeeds). The sources deliver no
  addresses; the column is empty.

A killed task leaves hidden `.tmp` files beside the previous audience; the next export of that date removes them.
"""

settings = load_settings()
campaigns = load_catalog().campaigns
# What a task may take does not count the time it waits for a DuckDB file that another program has open.
LOCK_WAIT = timedelta(seconds=settings.warehouse_lock_wait if settings.warehouse == "duckdb" else 0)
# As the run asks for it; what is decided says it to those that come after it.
REQUESTED = "{{ macros.customer_360.requested_as_of_date(dag_run, params) }}"
DECIDED = "{{ ti.xcom_pull('decide_audiences')['as_of_date'] }}"
ONLY = "{{ params.campaign or '' }}"

with DAG(
    dag_id="campaign_exports",
    description="The campaigns' audiences as CSV with a manifest, after each publication of the marts",
    doc_md=f"{DOC}\n[The screens]({settings.screens_url}) show what is published.\n",
    schedule=PartitionedAssetTimetable(assets=PUBLISHED),
    catchup=False,
    max_active_runs=1,
    on_failure_callback=tell_failure,
    on_success_callback=tell_success,
    tags=["customer-360", "exports"],
    template_searchpath=TEMPLATE_FOLDERS,
    params={
        "as_of_date": Param(
            None,
            type=["null", "string"],
            format="date",
            title="As of date",
            description="The date whose published marts a manual run exports; empty: whichever is published.",
        ),
        "campaign": Param(
            None,
            type=["null", "string"],
            enum=[None, *(campaign.name for campaign in campaigns)],
            title="Campaign",
            description="The one that is exported; empty: all. All are decided on in either case.",
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="Count who would come into which audience, write nothing, export nothing.",
        ),
    },
    default_args={
        "owner": "data-engineering",
        "retries": 2,
        "retry_delay": timedelta(minutes=2),
        "execution_timeout": timedelta(minutes=15) + LOCK_WAIT,
        "on_execute_callback": keep_start,
        "on_failure_callback": keep_reason,
        "on_skipped_callback": keep_reason,
    },
):
    decide = DecideAudiencesOperator(
        task_id="decide_audiences",
        campaigns=campaigns,
        as_of_date=REQUESTED,
        only=ONLY,
        counts_only="{{ params.dry_run }}",
    )
    validate = ValidateAudiencesOperator(task_id="validate_audiences", campaigns=campaigns, as_of_date=DECIDED)
    log_exports = LogExportsOperator(
        task_id="log_exports",
        campaigns=campaigns,
        export_root=settings.export_root,
        as_of_date=REQUESTED,
        trigger_rule="all_done",
    )
    decide >> validate
    for campaign in campaigns:
        approve = ApproveAudienceOperator(
            task_id=f"approve_{campaign.name}", campaign=campaign, only=ONLY, owner=campaign.owner
        )
        export = ExportAudienceOperator.partial(
            task_id=f"export_{campaign.name}",
            campaign=campaign,
            export_root=settings.export_root,
            as_of_date=DECIDED,
            only=ONLY,
            pool=POOL,
            owner=campaign.owner,
            doc_md=campaign.description,
            map_index_template="{{ task.destination }}",
        ).expand(destination=[destination.name for destination in campaign.destinations])
        chain(validate, approve, export, log_exports)
    [decide, validate] >> log_exports
