"""Every model belongs to a dbt group, and so to the team that owns it; dbt-bouncer has no check of its own for it."""

from dbt_bouncer.check_framework.decorator import check, fail
from dbt_bouncer.utils import get_clean_model_name


@check
def check_model_has_group(model):  # noqa: ANN001, ANN201 - dbt-bouncer reads the signature
    """Models must belong to a dbt group, which names their owner."""
    if not model.config.group:
        fail(
            f"`{get_clean_model_name(model.unique_id)}` has no owner: give its folder a +group in dbt_project.yml, one "
            "of models/groups.yml."
        )
