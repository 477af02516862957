"""What all operators that open the warehouse have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.sql.operators.sql import BaseSQLOperator

from include.customer_360.connection import CONN_ID, query_tag, warehouse_connection

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook


class WarehouseOperator(BaseSQLOperator):
    """Base of the operators that open the warehouse.

    The connection is checked before it is used, and on Snowflake every statement is tagged with dag, run, task and
    as_of_date.

    :param as_of_date: the run's business date, YYYY-MM-DD.
    :param dag_run_id: the run, for what it leaves in schema ops and in the tag.
    """

    template_fields: Sequence[str] = ("conn_id", "as_of_date", "dag_run_id")

    def __init__(
        self,
        *,
        as_of_date: str,
        dag_run_id: str = "{{ run_id }}",
        conn_id: str = CONN_ID,
        **kwargs: Any,  # noqa: ANN401 - passed on to BaseSQLOperator
    ) -> None:
        super().__init__(conn_id=conn_id, **kwargs)
        self.as_of_date = as_of_date
        self.dag_run_id = dag_run_id

    def get_db_hook(self) -> DbApiHook:
        """Return the hook of connection `warehouse`.

        :raises WarehouseConnectionError: when the connection cannot be used.
        """
        connection = warehouse_connection(self.conn_id)
        if connection.conn_type == "snowflake":
            tag = query_tag(self.dag_id, self.dag_run_id, self.task_id, self.as_of_date)
            session = {**(connection.extra_dejson.get("session_parameters") or {}), "QUERY_TAG": tag}
            self.hook_params = {**(self.hook_params or {}), "session_parameters": session}
        return super().get_db_hook()


class RunSchemaOperator(WarehouseOperator):
    """Base of the operators that work on what one run built.

    :param run_schema: the schema that this run built its marts in.
    :param as_of_date: the run's business date, YYYY-MM-DD.
    """

    template_fields: Sequence[str] = (*WarehouseOperator.template_fields, "run_schema")

    def __init__(self, *, run_schema: str, **kwargs: Any) -> None:  # noqa: ANN401 - passed on to WarehouseOperator
        super().__init__(**kwargs)
        self.run_schema = run_schema
