"""What each validation check catches, and what the operator does with its findings."""

from __future__ import annotations

import datetime
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from jinja2 import Environment, FileSystemLoader

from include.customer_360.catalog import MANIFEST, load_catalog
from include.customer_360.dbt_vars import dbt_vars
from include.customer_360.failures import EXAMPLES_BY_CHECK
from include.customer_360.operators.build import FAILED_TESTS
from include.customer_360.operators.validate import (
    RESULTS,
    KeepValidationResultsOperator,
    ValidateMartOperator,
    ValidateOperator,
    ValidateSourcesOperator,
    ValidationFailed,
    ValidationNotRun,
)
from include.customer_360.settings import TEMPLATE_FOLDERS
from tests.unit.validation_warehouse import AS_OF_DATE, RUN_SCHEMA, build_warehouse

LTV = "metric_customer_ltv"
MOM = "metric_mom_spend_change"
ATV = "metric_avg_transaction_value"
SEGMENTS = "customer_segments"
PROFILE = "customer_360_profile"
CAMPAIGNS = "campaign_results"
CATEGORIES = "customer_category_spend"
HORIZONS = "campaign_horizon_days"
DRIFT = {mart.name: mart.drift for mart in load_catalog().marts}
MARTS = list(DRIFT)
# A night without a wave that is old enough has no result, and 90 days without a purchase have no category; a night
# without a row of these has failed.
NEVER_EMPTY = [mart for mart in MARTS if mart not in (CAMPAIGNS, CATEGORIES)]
TEMPLATES = ["sources", *MARTS]
# Those whose every check has a planted fault here.
PLANTED = ["sources", SEGMENTS, LTV, MOM, ATV, PROFILE, CAMPAIGNS, CATEGORIES]
HIGH, STABLE = "High-Value Travelers", "Stable Mid-Spenders"


class Fault(NamedTuple):
    """Statements that make `check` of `mart` fail, and those other checks that cannot but fail with it."""

    mart: str
    check: str
    statements: list[str]
    also: set[str] = set()  # noqa: RUF012 - never changed


def update(table: str, values: str, customer: str, condition: str = "true") -> str:
    return f"update {RUN_SCHEMA}.{table} set {values} where customer_id = '{customer}' and {condition}"


def duplicate(table: str, customer: str) -> str:
    return f"insert into {RUN_SCHEMA}.{table} select * from {RUN_SCHEMA}.{table} where customer_id = '{customer}'"


def wave(campaign: str, horizon_days: int, *values: str) -> str:
    """Return the statement that sets values in a wave's result."""
    set_values = "".join(values)
    return (
        f"update {RUN_SCHEMA}.{CAMPAIGNS} set {set_values} "
        f"where campaign = '{campaign}' and horizon_days = {horizon_days}"
    )


def delete(table: str, customer: str, condition: str = "true") -> str:
    return f"delete from {RUN_SCHEMA}.{table} where customer_id = '{customer}' and {condition}"


def late_transaction(customer: str, date: str, amount: str, category: str = "Retail") -> str:
    return (
        "insert into core.fct_transactions (transaction_id, customer_id, transaction_date, transaction_amount, "
        f"merchant_category, status) values ('LATE', '{customer}', '{date}', {amount}, '{category}', 'approved')"
    )


def publication(mart: str, row_count: int, lifetime_value: str, as_of_date: str = "2026-03-14") -> str:
    return (
        "insert into ops.publications (dag_run_id, as_of_date, mart, row_count, lifetime_value, published_at) "
        f"values ('earlier', '{as_of_date}', '{mart}', {row_count}, {lifetime_value}, '{as_of_date} 08:00:00')"
    )


def publication_of_categories(values: str) -> str:
    """Return the statements that record a publication of the day before, the same but for `values`."""
    return (
        "alter table ops.publications add column spend decimal(38, 4); "
        "insert into ops.publications (dag_run_id, as_of_date, mart, row_count, spend, published_at) "
        f"select 'earlier', date '2026-03-14', '{CATEGORIES}', count(*), sum(spend), timestamp '2026-03-14 08:00:00' "
        f"from {RUN_SCHEMA}.{CATEGORIES}; "
        f"update ops.publications set {values} where mart = '{CATEGORIES}'"
    )


def deliveries(*but: str, until: int = 1) -> str:
    """Twenty transactions on each day of the ten weeks that end so many days before AS_OF_DATE, but for some."""
    days = [datetime.date.fromisoformat(AS_OF_DATE) - datetime.timedelta(days=number) for number in range(until, 71)]
    listed = ", ".join(f"date '{day}'" for day in days if str(day) not in but)
    return (
        "insert into raw.transactions (transaction_id, customer_id, transaction_date, status) "
        f"select day || '/' || number, 'STABLE', day, 'approved' "
        f"from (select unnest([{listed}]) as day), range(20) as numbers (number)"
    )


# So many customers exist on 2026-03-15, and spent so much together.
CUSTOMER_COUNT, TOTAL_SPEND = 34, "105294.99"
BOUNDS_OF_PLAIN = ", plain_lift_low = plain_lift_low + 0.1, plain_lift_high = plain_lift_high + 0.1"

ROWS_DIFFER = re.compile(r"(\d+) \w+ differ, for example (.+)")
FAULTS = [
    Fault("sources", "sources_customers_not_empty", ["delete from raw.customers"]),
    Fault(
        "sources",
        "sources_transactions_not_empty",
        ["delete from raw.transactions"],
        also={"sources_transactions_fresh"},
    ),
    # Four days old; the one of 2026-03-20 is no transaction of this run.
    Fault(
        "sources",
        "sources_transactions_fresh",
        [
            "update raw.transactions set transaction_date = '2026-03-11' where transaction_date = '2026-03-12'",
        ],
    ),
    Fault("sources", "sources_day_complete", [deliveries()]),
    Fault(
        "sources",
        "sources_days_before_complete",
        [deliveries("2026-03-11", until=0)],
    ),
    # The customer without account_open_date has been there from 1900 on.
    Fault(
        "sources",
        "sources_as_of_date_possible",
        [
            "update raw.customers set account_open_date = '2026-03-16'",
            "update raw.transactions set transaction_date = '2026-03-16'",
        ],
        also={"sources_transactions_fresh"},
    ),
    Fault(
        "sources",
        "sources_statuses_known",
        ["update raw.transactions set status = 'Settled' where customer_id = 'ONE_PURCHASE'"],
    ),
    Fault(
        "sources",
        "sources_categories_known",
        ["update raw.transactions set merchant_category = 'Pets' where customer_id = 'ONE_PURCHASE'"],
    ),
    Fault(LTV, "ltv_one_row_per_customer", [duplicate(LTV, "STABLE")]),
    Fault(LTV, "ltv_covers_existing_customers", [delete(LTV, "NEVER_SPENT"), delete("int_customers", "NEVER_SPENT")]),
    Fault(LTV, "ltv_lifetime_value_reconciles", [update(LTV, "lifetime_value = lifetime_value + 0.01", "STABLE")]),
    Fault(LTV, "ltv_total_transactions_reconciles", [update(LTV, "total_transactions = 2", "STABLE")]),
    Fault(LTV, "ltv_transaction_dates_reconcile", [update(LTV, "last_transaction_date = '2026-02-02'", "STABLE")]),
    # A refund that came in as a purchase: mart and fact agree, and are wrong.
    Fault(
        LTV,
        "ltv_not_negative",
        [
            late_transaction("NEVER_SPENT", "2026-02-01", "-5.00"),
            update(
                LTV,
                "lifetime_value = -5, total_transactions = 1, first_transaction_date = '2026-02-01', "
                "last_transaction_date = '2026-02-01'",
                "NEVER_SPENT",
            ),
        ],
    ),
    Fault(LTV, "ltv_avg_spend_per_day_recomputes", [update(LTV, "avg_spend_per_day = 5.3", "STABLE")]),
    Fault(LTV, "ltv_segment_agrees", [update(LTV, "customer_segment = null", "STABLE")]),
    Fault(LTV, "ltv_stamped_with_as_of_date", [update(LTV, "as_of_date = '2026-03-14'", "STABLE")]),
    Fault(LTV, "ltv_row_count_near_published", [publication(LTV, 36, TOTAL_SPEND)]),
    Fault(LTV, "ltv_row_count_near_published", [publication(LTV, 30, TOTAL_SPEND)]),
    Fault(LTV, "ltv_lifetime_value_near_published", [publication(LTV, CUSTOMER_COUNT, "111000.00")]),
    Fault(LTV, "ltv_lifetime_value_near_published", [publication(LTV, CUSTOMER_COUNT, "84000.00")]),
    Fault(
        MOM,
        "mom_one_row_per_customer_month",
        [f"insert into {RUN_SCHEMA}.{MOM} values ('DECLINING', '2026-02-01', 6, 0, 0, null, 'Flat', '{AS_OF_DATE}')"],
    ),
    Fault(
        MOM,
        "mom_no_month_in_progress",
        [
            f"insert into {RUN_SCHEMA}.{MOM} "
            f"values ('STABLE', '2026-03-01', 10, 0, 420, -100, 'High Decline', '{AS_OF_DATE}')"
        ],
    ),
    Fault(
        MOM,
        "mom_month_number_counts_from_one",
        [update(MOM, "month_number = month_number + 1", "STABLE", "month = '2026-02-01'")],
    ),
    Fault(
        MOM,
        "mom_prior_month_spend_is_previous_row",
        [
            update(
                MOM,
                "prior_month_spend = 0, mom_change_pct = null, mom_trend_category = 'High Growth'",
                "TRAVELLER",
                "month = '2026-02-01'",
            )
        ],
    ),
    Fault(
        MOM, "mom_change_pct_recomputes", [update(MOM, "mom_change_pct = -22.2", "TRAVELLER", "month = '2026-02-01'")]
    ),
    Fault(
        MOM,
        "mom_trend_in_bounds",
        [update(MOM, "mom_trend_category = 'High Decline'", "TRAVELLER", "month = '2026-02-01'")],
    ),
    Fault(MOM, "mom_trend_in_bounds", [update(MOM, "mom_trend_category = ''", "TRAVELLER", "month = '2026-02-01'")]),
    # Where the month before is not the month counted as 1, and the other way round.
    Fault(
        MOM,
        "mom_first_month_labelled",
        [update(MOM, "mom_trend_category = 'Flat'", "STABLE", "month_number = 1")],
    ),
    Fault(
        MOM,
        "mom_first_month_labelled",
        [update(MOM, "mom_trend_category = 'First Month'", "TRENDS", "month = '2026-01-01'")],
        also={"mom_trend_after_no_spend"},
    ),
    Fault(
        MOM,
        "mom_trend_after_no_spend",
        [update(MOM, "mom_trend_category = 'Growth'", "TRENDS", "month = '2026-02-01'")],
    ),
    Fault(
        MOM,
        "mom_trend_after_no_spend",
        [update(MOM, "mom_trend_category = 'High Growth'", "TRENDS", "month = '2026-01-01'")],
    ),
    Fault(
        MOM,
        "mom_trend_after_no_spend",
        [update(MOM, "mom_trend_category = ''", "TRENDS", "month = '2026-01-01'")],
    ),
    # A late purchase that the mart does not have.
    Fault(
        MOM,
        "mom_customer_totals_reconcile",
        [late_transaction("TRAVELLER", "2026-02-28", "0.01")],
        also={"mom_month_totals_reconcile"},
    ),
    # Spend in the wrong month: what the customer spent in all is right.
    Fault(
        MOM,
        "mom_month_totals_reconcile",
        ["update core.fct_transactions set transaction_date = '2026-01-31' where transaction_date = '2026-02-10'"],
    ),
    # Spend of the wrong customer: what was spent in the month is right.
    Fault(
        MOM,
        "mom_customer_totals_reconcile",
        ["update core.fct_transactions set customer_id = 'STABLE' where transaction_date = '2026-02-10'"],
    ),
    # December, without spend as November, is missing between November and January.
    Fault(
        MOM,
        "mom_months_dense",
        [
            delete(MOM, "DECLINING", "month = '2025-12-01'"),
            update(MOM, "month_number = month_number - 1", "DECLINING", "month > '2025-12-01'"),
        ],
    ),
    # The mart was built for a month earlier.
    Fault(MOM, "mom_months_dense", [delete(MOM, "DECLINING", "month = '2026-02-01'")]),
    Fault(MOM, "mom_stamped_with_as_of_date", [update(MOM, "as_of_date = '2026-03-14'", "STABLE")]),
    Fault(ATV, "atv_one_row_per_customer", [duplicate(ATV, "STABLE")]),
    Fault(ATV, "atv_covers_existing_customers", [delete(ATV, "NEVER_SPENT"), delete("int_customers", "NEVER_SPENT")]),
    Fault(
        ATV,
        "atv_average_recomputes",
        [update(ATV, "avg_transaction_value = 423.34", "STABLE")],
        also={"atv_sample_reconciles"},
    ),
    # What the run aggregated lacks a purchase that the fact has.
    Fault(ATV, "atv_sample_reconciles", [late_transaction("STABLE", "2026-02-01", "700.00")]),
    # The deviation of a population, 20.5480, where that of a sample, 25.1661, is asked for.
    Fault(ATV, "atv_sample_reconciles", [update(ATV, "transaction_value_stddev = 20.5480", "STABLE")]),
    Fault(
        ATV,
        "atv_values_ordered",
        [update(ATV, "median_transaction_value = 450.01", "STABLE")],
        also={"atv_sample_reconciles"},
    ),
    Fault(
        ATV,
        "atv_values_ordered",
        [update(ATV, "median_transaction_value = null", "STABLE")],
        also={"atv_sample_reconciles"},
    ),
    Fault(
        ATV,
        "atv_stddev_null_below_two",
        [update(ATV, "transaction_value_stddev = 0, spending_consistency = 'Consistent'", "ONE_PURCHASE")],
        also={"atv_sample_reconciles"},
    ),
    Fault(ATV, "atv_consistency_in_bounds", [update(ATV, "spending_consistency = 'Moderate'", "STABLE")]),
    Fault(ATV, "atv_consistency_in_bounds", [update(ATV, "spending_consistency = 'Steady'", "STABLE")]),
    Fault(ATV, "atv_consistency_null_without_stddev", [update(ATV, "spending_consistency = null", "STABLE")]),
    Fault(
        ATV,
        "atv_consistency_null_without_stddev",
        [update(ATV, "spending_consistency = 'Variable'", "ONE_PURCHASE")],
        also={"atv_consistency_in_bounds"},
    ),
    Fault(ATV, "atv_segment_agrees", [update(ATV, "customer_segment = 'Declining'", "STABLE")]),
    Fault(ATV, "atv_stamped_with_as_of_date", [update(ATV, "as_of_date = '2026-03-14'", "STABLE")]),
    Fault(SEGMENTS, "segments_one_row_per_customer", [duplicate(SEGMENTS, "NEVER_SPENT")]),
    Fault(
        SEGMENTS,
        "segments_covers_existing_customers",
        [delete(SEGMENTS, "NEVER_SPENT"), delete("int_customers", "NEVER_SPENT")],
    ),
    Fault(
        SEGMENTS,
        "segments_known",
        [update(SEGMENTS, "customer_segment = null", "STABLE")],
    ),
    Fault(
        SEGMENTS,
        "segments_known",
        [update(SEGMENTS, "customer_segment = 'Stable Mid-Spenders'", "NEVER_SPENT")],
    ),
    Fault(SEGMENTS, "segments_known", [update(SEGMENTS, "customer_segment = 'Unheard of'", "TRAVELLER")]),
    # Within the bounds of no segment or of a later one, and within the bounds of one without being of it.
    Fault(SEGMENTS, "segments_high_value_in_bounds", [update(SEGMENTS, f"customer_segment = '{HIGH}'", "STABLE")]),
    Fault(
        SEGMENTS,
        "segments_high_value_in_bounds",
        [update(SEGMENTS, "customer_segment = 'New & Growing'", "TRAVELLER")],
    ),
    Fault(SEGMENTS, "segments_declining_in_bounds", [update(SEGMENTS, "customer_segment = 'Declining'", "STABLE")]),
    Fault(SEGMENTS, "segments_declining_in_bounds", [update(SEGMENTS, f"customer_segment = '{STABLE}'", "DECLINING")]),
    Fault(SEGMENTS, "segments_growing_in_bounds", [update(SEGMENTS, "customer_segment = 'New & Growing'", "STABLE")]),
    Fault(SEGMENTS, "segments_growing_in_bounds", [update(SEGMENTS, f"customer_segment = '{STABLE}'", "ONE_PURCHASE")]),
    Fault(SEGMENTS, "segments_budget_in_bounds", [update(SEGMENTS, "customer_segment = 'Budget-Conscious'", "STABLE")]),
    Fault(SEGMENTS, "segments_budget_in_bounds", [update(SEGMENTS, f"customer_segment = '{STABLE}'", "BUDGET_BELOW")]),
    Fault(SEGMENTS, "segments_high_value_in_bounds", [update(SEGMENTS, f"customer_segment = '{HIGH}'", "DECLINING")]),
    Fault(
        SEGMENTS,
        "segments_percentages_in_range",
        [update(SEGMENTS, "travel_spend_pct = 70, necessities_spend_pct = 31", "TRAVELLER")],
        also={"segments_category_shares_recompute"},
    ),
    Fault(SEGMENTS, "segments_category_shares_recompute", [update(SEGMENTS, "travel_spend_pct = 68", "TRAVELLER")]),
    Fault(SEGMENTS, "segments_category_spend_reconciles", [late_transaction("STABLE", "2025-09-01", "0.01", "Hotels")]),
    Fault(SEGMENTS, "segments_category_spend_reconciles", [late_transaction("STABLE", "2025-09-01", "0.01", "Gas")]),
    Fault(SEGMENTS, "segments_spend_windows_reconcile", [late_transaction("STABLE", "2026-03-15", "0.01")]),
    Fault(SEGMENTS, "segments_spend_windows_reconcile", [late_transaction("STABLE", "2025-12-15", "0.01")]),
    Fault(SEGMENTS, "segments_spend_change_recomputes", [update(SEGMENTS, "spend_change_pct = -6.6", "STABLE")]),
    Fault(SEGMENTS, "segments_spend_change_recomputes", [update(SEGMENTS, "avg_monthly_spend = 140.01", "STABLE")]),
    Fault(SEGMENTS, "segments_tenure_recomputes", [update(SEGMENTS, "tenure_months = 8", "STABLE")]),
    Fault(
        SEGMENTS,
        "segments_stamped_with_as_of_date",
        [update(SEGMENTS, "segment_assigned_date = '2026-03-14'", "STABLE")],
    ),
    Fault(
        PROFILE, "profile_one_row_per_customer", [delete(PROFILE, "STABLE")], also={"profile_covers_existing_customers"}
    ),
    Fault(
        PROFILE,
        "profile_covers_existing_customers",
        [delete(PROFILE, "NEVER_SPENT"), delete("int_customers", "NEVER_SPENT")],
    ),
    Fault(PROFILE, "profile_agrees_with_customers", [update(PROFILE, "city = null", "STABLE")]),
    Fault(PROFILE, "profile_agrees_with_customers", [update(PROFILE, "full_name = 'Byron Ada'", "STABLE")]),
    Fault(PROFILE, "profile_agrees_with_ltv", [update(PROFILE, "first_transaction_date = '2025-06-11'", "STABLE")]),
    Fault(PROFILE, "profile_agrees_with_atv", [update(PROFILE, "median_transaction_value = 425", "STABLE")]),
    Fault(
        PROFILE,
        "profile_average_recomputes",
        [update(table, "avg_transaction_value = 423.34", "STABLE") for table in (PROFILE, ATV)],
    ),
    Fault(PROFILE, "profile_agrees_with_segments", [update(PROFILE, "spend_prior_90_days = 451", "STABLE")]),
    Fault(PROFILE, "profile_agrees_with_mom", [delete(MOM, "STABLE", "month = '2026-02-01'")]),
    # Had March been counted, the months would add up to all that GROWING spent.
    Fault(PROFILE, "profile_agrees_with_mom", [update(MOM, "monthly_spend = 500", "GROWING", "month = '2026-01-01'")]),
    Fault(
        PROFILE,
        "profile_key_in_dim_customer",
        [update(table, "customer_key = 'unheard of'", "STABLE") for table in (PROFILE, "int_customers")],
    ),
    Fault(PROFILE, "profile_account_age_recomputes", [update(PROFILE, "account_age_days = 437", "STABLE")]),
    Fault(PROFILE, "profile_days_since_recomputes", [update(PROFILE, "days_since_last_transaction = 41", "STABLE")]),
    Fault(
        PROFILE, "profile_days_since_recomputes", [update(PROFILE, "days_since_last_transaction = 0", "NEVER_SPENT")]
    ),
    Fault(PROFILE, "profile_recency_in_bounds", [update(PROFILE, "recency_status = 'Active (30 days)'", "STABLE")]),
    Fault(PROFILE, "profile_recency_in_bounds", [update(PROFILE, "recency_status = ''", "NEVER_SPENT")]),
    Fault(
        PROFILE, "profile_recency_in_bounds", [update(PROFILE, "recency_status = 'At Risk (90 days)'", "NEVER_SPENT")]
    ),
    Fault(
        PROFILE,
        "profile_days_since_not_negative",
        [
            update(PROFILE, "last_transaction_date = '2026-03-20', days_since_last_transaction = -5", "GROWING"),
            update(LTV, "last_transaction_date = '2026-03-20'", "GROWING"),
        ],
    ),
    Fault(
        PROFILE,
        "profile_spending_profile_in_bounds",
        [update(PROFILE, "spending_profile = 'Travel-Focused'", "STABLE")],
    ),
    Fault(
        PROFILE, "profile_spending_profile_in_bounds", [update(PROFILE, "spending_profile = 'Balanced'", "TRAVELLER")]
    ),
    Fault(
        PROFILE,
        "profile_spending_profile_in_bounds",
        # Most of what this customer buys are necessities, and still travel counts first.
        [update(table, "travel_spend_pct = 30, necessities_spend_pct = 65", "BUDGET") for table in (PROFILE, SEGMENTS)],
    ),
    Fault(
        PROFILE,
        "profile_campaign_flags_match_segment",
        [update(PROFILE, "eligible_for_retention_campaign = true", "STABLE")],
    ),
    Fault(
        PROFILE,
        "profile_campaign_flags_match_segment",
        [update(PROFILE, "eligible_for_premium_campaign = true", "NEVER_SPENT")],
    ),
    Fault(
        PROFILE,
        "profile_campaign_flags_match_segment",
        [update(PROFILE, "eligible_for_onboarding_campaign = false", "GROWING")],
    ),
    Fault(
        PROFILE, "profile_stamped_with_as_of_date", [update(PROFILE, "profile_updated_date = '2026-03-14'", "STABLE")]
    ),
    Fault(
        PROFILE,
        "profile_emails_present",
        # Two of 34 are more than 5 %.
        [
            update(table, "email = null", customer)
            for table in (PROFILE, "int_customers")
            for customer in ("STABLE", "BUDGET")
        ],
    ),
    Fault(
        CAMPAIGNS,
        "results_one_row_per_wave_and_horizon",
        [f"delete from {RUN_SCHEMA}.{CAMPAIGNS} where horizon_days = 90"],
    ),
    Fault(
        CAMPAIGNS,
        "results_one_row_per_wave_and_horizon",
        [f"insert into {RUN_SCHEMA}.{CAMPAIGNS} select * from {RUN_SCHEMA}.{CAMPAIGNS} where horizon_days = 90"],
    ),
    # A result before its horizon is over.
    Fault(
        CAMPAIGNS,
        "results_one_row_per_wave_and_horizon",
        [
            f"insert into {RUN_SCHEMA}.{CAMPAIGNS} select * replace (date '2026-02-14' as wave_date) "
            f"from {RUN_SCHEMA}.{CAMPAIGNS} where campaign = 'onboarding'"
        ],
    ),
    Fault(
        CAMPAIGNS,
        "results_customers_reconcile",
        [wave("onboarding", 30, "treated_customers = 3, treated_spend_after_per_customer = 83.3333")],
    ),
    Fault(
        CAMPAIGNS,
        "results_spend_reconciles",
        [wave("premium", 60, "treated_spend_before = 6098.39, treated_spend_before_per_customer = 1524.5975")],
    ),
    Fault(
        CAMPAIGNS,
        "results_spend_per_customer_recomputes",
        [wave("premium", 60, "treated_spend_before_per_customer = treated_spend_before_per_customer + 0.001")],
    ),
    Fault(
        CAMPAIGNS,
        "results_estimates_where_two",
        [wave("onboarding", 30, "theta = 0, lift = 1, plain_lift = 1, lift_standard_error = 0, total_effect = 2")],
        also={"results_lift_recomputes"},
    ),
    Fault(
        CAMPAIGNS,
        "results_estimates_where_two",
        [
            wave(
                *("premium", 60, "lift_low = null, lift_high = null, is_significant = null, total_effect_low = null, "),
                "total_effect_high = null, minimum_detectable_effect = null",
            )
        ],
    ),
    Fault(CAMPAIGNS, "results_lift_recomputes", [wave("premium", 60, "theta = theta + 0.01")]),
    Fault(
        CAMPAIGNS, "results_lift_recomputes", [wave("premium", 60, "plain_lift = plain_lift + 0.1", BOUNDS_OF_PLAIN)]
    ),
    Fault(CAMPAIGNS, "results_lift_recomputes", [wave("premium", 60, "lift_standard_error = 5896")]),
    Fault(CAMPAIGNS, "results_lift_recomputes", [wave("premium", 60, "variance_reduction_pct = 11")]),
    Fault(CAMPAIGNS, "results_interval_recomputes", [wave("premium", 60, "plain_lift_low = plain_lift_low - 0.1")]),
    Fault(
        CAMPAIGNS,
        "results_interval_recomputes",
        [
            wave(
                *("premium", 60, "lift_low = lift - 11500, lift_high = lift + 11500, "),
                "total_effect_low = 4 * (lift - 11500), total_effect_high = 4 * (lift + 11500), "
                "minimum_detectable_effect = 11500 + 6000",
            )
        ],
    ),
    Fault(CAMPAIGNS, "results_figures_agree", [wave("premium", 60, "lift_pct = lift_pct + 0.01")]),
    Fault(CAMPAIGNS, "results_figures_agree", [wave("retention", 60, "lift_pct = 0")]),
    Fault(CAMPAIGNS, "results_figures_agree", [wave("premium", 60, "is_significant = true")]),
    Fault(CAMPAIGNS, "results_figures_agree", [wave("premium", 60, "is_significant = null")]),
    Fault(CAMPAIGNS, "results_figures_agree", [wave("premium", 60, "minimum_detectable_effect = lift_high - lift")]),
    Fault(CAMPAIGNS, "results_figures_agree", [wave("premium", 60, "total_effect = total_effect + 1")]),
    Fault(CAMPAIGNS, "results_figures_agree", [wave("premium", 60, "total_effect_high = null")]),
    Fault(CAMPAIGNS, "results_stamped_with_as_of_date", [wave("premium", 60, "as_of_date = '2026-03-14'")]),
    Fault(
        CATEGORIES,
        "category_spend_one_row_per_category",
        [duplicate(CATEGORIES, "STABLE")],
        also={"category_spend_customers_reconcile", "category_spend_categories_reconcile"},
    ),
    Fault(
        CATEGORIES,
        "category_spend_customers_reconcile",
        [
            update(CATEGORIES, "spend = spend + 1", "TRAVELLER", "merchant_category = 'Dining'"),
            update(CATEGORIES, "spend = spend - 1", "GROWING", "merchant_category = 'Dining'"),
        ],
    ),
    Fault(
        CATEGORIES,
        "category_spend_customers_reconcile",
        [
            update(CATEGORIES, "transactions = 2", "TRAVELLER", "merchant_category = 'Dining'"),
            update(CATEGORIES, "transactions = 1", "GROWING", "merchant_category = 'Dining'"),
        ],
    ),
    Fault(
        CATEGORIES,
        "category_spend_categories_reconcile",
        [
            update(CATEGORIES, "spend = spend + 1", "TRAVELLER", "merchant_category = 'Dining'"),
            update(CATEGORIES, "spend = spend - 1", "TRAVELLER", "merchant_category = 'Airlines'"),
        ],
    ),
    Fault(
        CATEGORIES,
        "category_spend_customers_reconcile",
        [f"delete from {RUN_SCHEMA}.{CATEGORIES}"],
        also={"category_spend_categories_reconcile"},
    ),
    # On the first of the 90 days.
    Fault(
        CATEGORIES,
        "category_spend_customers_reconcile",
        [late_transaction("LAST_SEEN_90", "2025-12-16", "9.00")],
        also={"category_spend_categories_reconcile"},
    ),
    Fault(
        CATEGORIES,
        "category_spend_group_agrees",
        [update(CATEGORIES, "category_group = 'travel'", "STABLE")],
    ),
    Fault(
        CATEGORIES,
        "category_spend_positive",
        [f"insert into {RUN_SCHEMA}.{CATEGORIES} values ('STABLE', 'Gas', 'necessities', 0, 0, '{AS_OF_DATE}')"],
    ),
    Fault(
        CATEGORIES,
        "category_spend_stamped_with_as_of_date",
        [update(CATEGORIES, "as_of_date = '2026-03-14'", "STABLE")],
    ),
    Fault(CATEGORIES, "category_spend_row_count_near_published", [publication_of_categories("row_count = 99")]),
    Fault(CATEGORIES, "category_spend_spend_near_published", [publication_of_categories("spend = 2 * spend")]),
    Fault(PROFILE, "profile_row_count_near_published", [publication(PROFILE, 36, TOTAL_SPEND)]),
    Fault(PROFILE, "profile_lifetime_value_near_published", [publication(PROFILE, CUSTOMER_COUNT, "111000.00")]),
]


class Shift(NamedTuple):
    """A wrong threshold in the compiled SQL of a model, and the check of `mart`, built with it, that fails."""

    var: str
    model: str
    right: str
    wrong: str
    mart: str
    check: str
    also: set[str] = set()  # noqa: RUF012 - never changed


def shifts(var: str, model: str, right: str, mart: str, check: str) -> list[Shift]:
    """One too low, one too high, and a comparison that takes the threshold itself to the wrong side."""
    before, comparison, threshold = re.fullmatch(r"(.*?)(<=|>=|<|>) (-?\d+)", right).groups()
    other = comparison.removesuffix("=") if comparison.endswith("=") else f"{comparison}="
    wrong = [f"{before}{comparison} {int(threshold) + step}" for step in (-1, 1)] + [f"{before}{other} {threshold}"]
    return [Shift(var, model, right, each, mart, check) for each in wrong]


def category_window_shifts() -> list[Shift]:
    """The window of the categories, begun a day too early or too late."""
    right = "+ cast(-90 as bigint) * interval 1 day"
    return [
        Shift(
            *("spend_window_days", CATEGORIES, right, right.replace("90", wrong)),
            *(CATEGORIES, "category_spend_customers_reconcile", {"category_spend_categories_reconcile"}),
        )
        for wrong in ("89", "91")
    ]


def window_shifts(days: int) -> list[Shift]:
    """Windows that begin a day too early or too late."""
    model, check = "int_customer_transactions", "segments_spend_windows_reconcile"
    right = f"+ cast(-{days} as bigint) * interval 1 day"
    return [
        Shift("spend_window_days", model, right, right.replace(str(days), str(days + step)), SEGMENTS, check)
        for step in (-1, 1)
    ]


def horizon_shifts() -> list[Shift]:
    """A horizon that is over a day too early or too late, and days before and after that begin or end so."""
    over = "+ cast(-30 as bigint) * interval 1 day"
    due = [(over, over.replace("30", wrong)) for wrong in ("29", "31")]
    lift = {"results_lift_recomputes"}
    # Without the only spend there was after the wave, the group does not vary.
    interval = {*lift, "results_interval_recomputes"}
    sides = [
        ("> due.wave_date - 30", "> due.wave_date - 29", lift),
        ("> due.wave_date - 30", "> due.wave_date - 31", lift),
        ("> due.wave_date - 30", ">= due.wave_date - 30", lift),
        ("<= due.wave_date", "< due.wave_date", lift),
        ("> due.wave_date", ">= due.wave_date", lift),
        ("<= due.wave_date + 30", "<= due.wave_date + 29", interval),
        ("<= due.wave_date + 30", "<= due.wave_date + 31", lift),
        ("<= due.wave_date + 30", "< due.wave_date + 30", interval),
    ]
    return [
        *(Shift(HORIZONS, CAMPAIGNS, *pair, CAMPAIGNS, "results_one_row_per_wave_and_horizon") for pair in due),
        *(
            Shift(
                *(HORIZONS, CAMPAIGNS, f"transaction_date {right}\n", f"transaction_date {wrong}\n"),
                *(CAMPAIGNS, "results_spend_reconciles", also),
            )
            for right, wrong, also in sides
        ),
    ]


SHIFTS = [
    *window_shifts(90),
    *window_shifts(180),
    *category_window_shifts(),
    *shifts(
        *("high_value_avg_monthly_spend", SEGMENTS, "avg_monthly_spend >= 5000"),
        *(SEGMENTS, "segments_high_value_in_bounds"),
    ),
    *shifts("travel_focused_pct", SEGMENTS, "travel_spend_pct >= 25", SEGMENTS, "segments_high_value_in_bounds"),
    *shifts("travel_focused_pct", PROFILE, "travel_spend_pct >= 25", PROFILE, "profile_spending_profile_in_bounds"),
    *shifts(
        *("declining_spend_change_pct", SEGMENTS, "spend_change_pct <= -30"),
        *(SEGMENTS, "segments_declining_in_bounds"),
    ),
    *shifts(
        *("declining_prior_spend", SEGMENTS, "spend_prior_90_days >= 2000"), *(SEGMENTS, "segments_declining_in_bounds")
    ),
    *shifts("new_tenure_months", SEGMENTS, "tenure_months <= 6", SEGMENTS, "segments_growing_in_bounds"),
    *shifts("growing_spend_change_pct", SEGMENTS, "spend_change_pct >= 50", SEGMENTS, "segments_growing_in_bounds"),
    *shifts("budget_avg_monthly_spend", SEGMENTS, "avg_monthly_spend < 1500", SEGMENTS, "segments_budget_in_bounds"),
    *shifts("necessity_focused_pct", SEGMENTS, "necessities_spend_pct >= 60", SEGMENTS, "segments_budget_in_bounds"),
    *shifts(
        *("necessity_focused_pct", PROFILE, "necessities_spend_pct >= 60"),
        *(PROFILE, "profile_spending_profile_in_bounds"),
    ),
    *shifts("recency_active_days", PROFILE, "last_transaction <= 30", PROFILE, "profile_recency_in_bounds"),
    *shifts("recency_recent_days", PROFILE, "last_transaction <= 60", PROFILE, "profile_recency_in_bounds"),
    *shifts("recency_at_risk_days", PROFILE, "last_transaction <= 90", PROFILE, "profile_recency_in_bounds"),
    *shifts("consistent_stddev", ATV, "stddev < 50", ATV, "atv_consistency_in_bounds"),
    *shifts("moderate_stddev", ATV, "stddev < 200", ATV, "atv_consistency_in_bounds"),
    *shifts("mom_high_growth_pct", MOM, "mom_change_pct > 50", MOM, "mom_trend_in_bounds"),
    *shifts("mom_high_decline_pct", MOM, "mom_change_pct >= -30", MOM, "mom_trend_in_bounds"),
    *horizon_shifts(),
]


@pytest.fixture(scope="module")
def built_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = build_warehouse(tmp_path_factory.mktemp("validations"))
    execute_in(file, *rendered("sources", drift=DRIFT[LTV]).ops_tables.split(";"))
    return file


@pytest.fixture(scope="module")
def shared_connection(built_file: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(copy_of(built_file, built_file.with_name("planted.duckdb")))) as connection:
        yield connection


@pytest.fixture
def connection(shared_connection: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """The built warehouse, in a transaction that is taken back after the test."""
    shared_connection.execute("begin")
    yield shared_connection
    shared_connection.execute("rollback")


def copy_of(built_file: Path, file: Path) -> Path:
    assert not built_file.with_name(f"{built_file.name}.wal").exists()
    return Path(shutil.copy(built_file, file))


def compiled_model(built_file: Path, model: str) -> str:
    """Return the select of a model as dbt compiled it, for whatever file the warehouse is in."""
    [file] = (built_file.parent / "target" / "compiled").glob(f"**/models/**/{model}.sql")
    return file.read_text().replace(f'"{built_file.stem}".', "")


def checks_of(
    connection: duckdb.DuckDBPyConnection, mart: str, **arguments: object
) -> dict[str, tuple[str, str, str, bool]]:
    """Return (severity, observed, expected, passed) by check_name."""
    operator = rendered(mart, **arguments)
    # What a mart watches becomes a column of ops.publications.
    for statement in rendered("sources", drift=operator.drift).ops_tables.split(";"):
        connection.execute(statement)
    rows = connection.execute(operator.sql).fetchall()
    checks = {row[0]: row[1:] for row in rows}
    assert len(checks) == len(rows)
    return checks


def failed_checks(connection: duckdb.DuckDBPyConnection, mart: str) -> set[str]:
    return {name for name, (*_, passed) in checks_of(connection, mart).items() if not passed}


@pytest.mark.parametrize("mart", TEMPLATES)
def test_every_check_passes_on_marts_as_dbt_built_them(connection: duckdb.DuckDBPyConnection, mart: str) -> None:
    checks = checks_of(connection, mart)

    assert checks
    assert {name: check for name, check in checks.items() if check[-1] is not True} == {}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.check)
def test_planted_fault_is_caught_by_its_check_which_has_as_many_keys_as_it_counts(
    connection: duckdb.DuckDBPyConnection, fault: Fault
) -> None:
    for statement in fault.statements:
        connection.execute(statement)

    checks = checks_of(connection, fault.mart)
    assert {name for name, (*_, passed) in checks.items() if not passed} == {fault.check} | fault.also

    counted = {name: ROWS_DIFFER.match(checks[name][1]) for name in {fault.check} | fault.also}
    sql = rendered(fault.mart).render_sql(f"validations/{fault.mart}.sql", failing=tuple(counted))
    found = connection.execute(sql).fetchall() if any(counted.values()) else []
    keys = {name: sorted(key for check, key in found if check == name) for name in counted}
    for name, differ in counted.items():
        assert (len(keys[name]), keys[name][:1]) == ((int(differ[1]), [differ[2]]) if differ else (0, []))


def test_no_more_keys_are_returned_than_are_kept(
    connection: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.execute(f"update {RUN_SCHEMA}.{LTV} set total_transactions = -1")
    monkeypatch.setattr(ValidateOperator, "vars", {**dbt_vars(), "failing_rows_kept": 3})
    sql = rendered(LTV).render_sql(f"validations/{LTV}.sql", failing=("ltv_not_negative",))
    first = connection.execute(f"select customer_id from {RUN_SCHEMA}.{LTV} order by 1 limit 3").fetchall()
    assert connection.execute(sql).fetchall() == [("ltv_not_negative", customer_id) for (customer_id,) in first]


@pytest.mark.parametrize("shift", SHIFTS, ids=lambda shift: f"{shift.model}: {shift.wrong}")
def test_a_shifted_threshold_in_a_model_is_caught(
    connection: duckdb.DuckDBPyConnection, built_file: Path, shift: Shift
) -> None:
    for model in dict.fromkeys((shift.model, shift.mart)):
        sql = compiled_model(built_file, model)
        if model == shift.model:
            assert shift.right in sql
            sql = sql.replace(shift.right, shift.wrong)
        connection.execute(f"create or replace table {RUN_SCHEMA}.{model} as {sql}")

    assert failed_checks(connection, shift.mart) == {shift.check} | shift.also


def test_a_model_as_it_is_fails_no_check_when_it_is_built_here(
    connection: duckdb.DuckDBPyConnection, built_file: Path
) -> None:
    for model in dict.fromkeys(model for shift in SHIFTS for model in (shift.model, shift.mart)):
        connection.execute(f"create or replace table {RUN_SCHEMA}.{model} as {compiled_model(built_file, model)}")

    assert {mart: failed_checks(connection, mart) for mart in MARTS} == {mart: set() for mart in MARTS}


def test_every_threshold_is_shifted() -> None:
    no_thresholds = {"calendar_first_day", "calendar_last_day", "largest_transaction_amount", "snowflake_session"}
    of_checks = {name for name in dbt_vars() if name.startswith(("sources_", "drift_", "bank_holidays", "unknown_"))}
    of_checks |= {name for name in dbt_vars() if name.startswith(("audience_", "role_addresses", "test_domains"))}
    of_checks |= {"failing_rows_kept", "row_keys"}
    assert {shift.var for shift in SHIFTS} == dbt_vars().keys() - no_thresholds - of_checks


def test_every_check_has_a_planted_fault_and_a_name_of_its_own(connection: duckdb.DuckDBPyConnection) -> None:
    names = [name for mart in PLANTED for name in checks_of(connection, mart)]

    assert sorted(names) == sorted({fault.check for fault in FAULTS})


@pytest.mark.parametrize(
    ("stored", "recomputed", "largest", "differs"),
    [
        # Equal amounts of 123,456,789.01: what is left of large squares, 1.2 dollars, is no deviation.
        ("0.0000", "1.2", "123456789.01", False),
        ("0.0000", "1.2", "500.00", True),
        ("0.0000", "40.0", "123456789.01", True),
        ("20.5478", "20.5480", "100.00", True),
        ("20.5478", "20.54785", "100.00", False),
        ("20.5478", "null", "null", True),
        ("null", "20.5478", "100.00", True),
        ("null", "null", "100.00", False),
    ],
)
def test_a_deviation_may_be_off_by_the_last_digits_of_its_amounts_squared(
    stored: str, recomputed: str, largest: str, differs: bool
) -> None:
    checks = Environment(loader=FileSystemLoader(TEMPLATE_FOLDERS)).get_template("validations/checks.jinja")
    sql = checks.make_module({"as_of_date": "2026-03-31"}).deviation_differs(
        f"cast({stored} as decimal(18, 4))", f"cast({recomputed} as double)", f"cast({largest} as decimal(18, 2))"
    )
    assert duckdb.sql(f"select {sql}").fetchall() == [(differs,)]


@pytest.mark.parametrize(
    ("smaller", "larger", "holds"),
    [
        ("100.01", "100.01", True),
        ("9999999999999999.9900", "9999999999999999.98", True),
        ("100.02", "100.01", False),
        ("null", "100.01", None),
    ],
)
def test_an_average_may_be_above_the_largest_amount_by_what_a_double_has_no_digits_for(
    smaller: str, larger: str, holds: bool | None
) -> None:
    checks = Environment(loader=FileSystemLoader(TEMPLATE_FOLDERS)).get_template("validations/checks.jinja")
    sql = checks.make_module({"as_of_date": "2026-03-31"}).at_most(smaller, larger)
    assert duckdb.sql(f"select {sql}").fetchall() == [(holds,)]


@pytest.mark.parametrize("mart", NEVER_EMPTY)
def test_empty_mart_fails(connection: duckdb.DuckDBPyConnection, mart: str) -> None:
    connection.execute(f"delete from {RUN_SCHEMA}.{mart}")

    assert any("stamped_with_as_of_date" in name for name in failed_checks(connection, mart))


@pytest.mark.parametrize("mart", [SEGMENTS, LTV, ATV, PROFILE])
def test_marts_without_any_customer_fail(connection: duckdb.DuckDBPyConnection, mart: str) -> None:
    for table in [*(f"{RUN_SCHEMA}.{mart}" for mart in MARTS), f"{RUN_SCHEMA}.int_customers"]:
        connection.execute(f"delete from {table}")
    connection.execute("delete from core.dim_customer")
    connection.execute("delete from core.fct_transactions")

    assert failed_checks(connection, mart) >= {
        name for name in checks_of(connection, mart) if "stamped_with_as_of_date" in name
    }
    assert failed_checks(connection, mart)


def test_results_are_empty_exactly_while_no_wave_is_old_enough(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(f"delete from {RUN_SCHEMA}.{CAMPAIGNS}")
    observed = checks_of(connection, CAMPAIGNS)["results_one_row_per_wave_and_horizon"][1]
    assert observed == "6 waves differ, for example onboarding 2026-02-13 30"

    connection.execute("delete from ops.audience_memberships where as_of_date < '2026-02-14'")
    assert failed_checks(connection, CAMPAIGNS) == set()


def test_months_may_be_empty_before_the_first_complete_month(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("delete from core.fct_transactions where transaction_date < '2026-03-01'")
    connection.execute(f"delete from {RUN_SCHEMA}.{MOM}")

    assert failed_checks(connection, MOM) == set()


def test_failed_check_names_how_many_rows_differ_and_one_of_them(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(update(LTV, "lifetime_value = 0", "STABLE"))
    connection.execute(update(LTV, "lifetime_value = 0", "TRAVELLER"))

    _, observed, expected, _ = checks_of(connection, LTV)["ltv_lifetime_value_reconciles"]

    assert observed == "2 customers differ, for example STABLE"
    assert "core.fct_transactions" in expected


def test_drift_is_measured_against_the_latest_publication_up_to_a_week_old(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    connection.execute(publication(LTV, 500, "1.00", as_of_date="2026-03-07"))
    connection.execute(publication(LTV, 34, "96000.00", as_of_date="2026-03-08"))
    connection.execute(publication(LTV, 500, "1.00", as_of_date="2026-03-16"))
    connection.execute(publication(PROFILE, 500, "1.00", as_of_date="2026-03-15"))

    checks = checks_of(connection, LTV)

    assert checks["ltv_row_count_near_published"][1] == "row_count 34, 0.00 % against 2026-03-08"
    assert checks["ltv_lifetime_value_near_published"][1] == "lifetime_value 105294.99, 9.68 % against 2026-03-08"


def test_without_a_publication_within_a_week_there_is_nothing_to_drift_from(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    connection.execute(publication(LTV, 500, "1.00", as_of_date="2026-03-07"))

    _, observed, _, passed = checks_of(connection, LTV)["ltv_row_count_near_published"]

    assert observed == "row_count 34, nothing comparable published"
    assert passed


def test_accepted_drift_is_a_warning(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(publication(LTV, 500, "1.00"))

    strict, accepting = checks_of(connection, LTV), checks_of(connection, LTV, drift_severity="warn")

    for name in ("ltv_row_count_near_published", "ltv_lifetime_value_near_published"):
        assert (strict[name][0], strict[name][-1]) == ("error", False)
        assert (accepting[name][0], accepting[name][-1]) == ("warn", False)


def test_freshness_has_the_severity_that_is_asked_for(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("delete from raw.transactions where transaction_date = '2026-03-12'")

    checks = checks_of(connection, "sources", freshness_severity="warn")

    assert checks["sources_transactions_fresh"] == (
        "warn",
        "10 days: latest transaction_date is 2026-03-05",
        "at most 3 days older than 2026-03-15",
        False,
    )


@pytest.mark.parametrize("mart", TEMPLATES)
def test_template_reads_the_fact_for_sums_only_and_at_most_twice(mart: str) -> None:
    """Of a CTE with the fact's rows that is read twice DuckDB would keep all rows."""
    sql = rendered(mart).sql

    assert len(re.findall(r"(?:from|join) core\.fct_transactions", sql)) <= 2
    assert not re.findall(r"select \*\s+from core\.fct_transactions", sql)


@pytest.fixture
def warehouse(built_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the built warehouse behind the Airflow connection `warehouse`."""
    file = copy_of(built_file, tmp_path / "warehouse.duckdb")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "duckdb", "host": str(file)}))
    return file


def execute_in(file: Path, *statements: str) -> None:
    with duckdb.connect(str(file)) as connection:
        for statement in statements:
            connection.execute(statement)


def stored_results(file: Path, columns: str, condition: str = "true") -> list[tuple]:
    with duckdb.connect(str(file)) as connection:
        return connection.execute(
            f"select {columns} from ops.validation_results where {condition} order by all"
        ).fetchall()


class TaskInstance:
    """Stands for the task instances of one run: their XComs, by task_id and key, as JSON keeps them."""

    def __init__(self) -> None:
        self.xcoms: dict[tuple[str, str], Any] = {}
        self.task_id = ""

    def xcom_push(self, key: str, value: object) -> None:
        self.xcoms[self.task_id, key] = json.loads(json.dumps(value))

    def xcom_pull(self, task_ids: Sequence[str] | str, key: str, map_indexes: int = -1) -> object:
        assert map_indexes == -1
        if isinstance(task_ids, str):
            return self.xcoms.get((task_ids, key))
        return [self.xcoms.get((task_id, key)) for task_id in task_ids]


def rendered(mart: str, **arguments: object) -> ValidateOperator:
    settings = {"run_schema": RUN_SCHEMA, "as_of_date": AS_OF_DATE, "drift": DRIFT.get(mart)} | arguments
    with DAG("refresh", schedule=None, template_searchpath=TEMPLATE_FOLDERS):
        operator = (
            ValidateSourcesOperator(task_id="validate_sources", **settings)
            if mart == "sources"
            else ValidateMartOperator(task_id=f"validate_{mart}", mart=mart, **settings)
        )
    operator.resolve_template_files()
    operator.render_template_fields({"run_id": "run_1", "params": {"accept_drift": True}})
    return operator


def validate(mart: str, ti: TaskInstance | None = None, **arguments: object) -> dict[str, int]:
    """Validate as the task does; what it hands on goes to `ti`."""
    ti = ti or TaskInstance()
    ti.task_id = f"validate_{mart}"
    return rendered(mart, **arguments).execute({"ti": ti})


def keep(ti: TaskInstance, *marts: str, dag_run_id: str = "run_1") -> dict[str, int]:
    """Keep what the validations of these marts have handed on."""
    operator = KeepValidationResultsOperator(
        task_id="keep_validation_results",
        validations=[f"validate_{mart}" for mart in marts],
        build="dbt_build",
        run_schema=RUN_SCHEMA,
        as_of_date=AS_OF_DATE,
        dag_run_id=dag_run_id,
    )
    return operator.execute({"ti": ti})


def test_operator_renders_the_template_with_its_own_rendered_fields() -> None:
    operator = rendered(
        LTV,
        run_schema="marts_{{ run_id }}",
        as_of_date="2026-0{{ 1 + 2 }}-15",
        drift_severity="{{ 'warn' if params.accept_drift else 'error' }}",
    )

    assert operator.dag_run_id == "run_1"
    assert operator.drift_severity == "warn"
    assert "from marts_run_1.metric_customer_ltv" in operator.sql
    assert "cast('2026-03-15' as date)" in operator.sql
    assert re.findall(r"'(\w+)' as severity,\s+'(row_count|lifetime_value) ", operator.sql) == [
        ("warn", "row_count"),
        ("warn", "lifetime_value"),
    ]


def test_operator_returns_its_counts_and_every_result_is_kept(warehouse: Path) -> None:
    before = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    ti = TaskInstance()

    counts = validate(LTV, ti)
    kept = keep(ti, LTV)

    assert counts == {"passed": 11, "warned": 0, "failed": 0}
    assert kept == {LTV: 11}
    assert stored_results(warehouse, "distinct dag_run_id, mart, as_of_date, run_schema, severity, passed") == [
        ("run_1", LTV, datetime.date(2026, 3, 15), RUN_SCHEMA, "error", True)
    ]
    assert stored_results(warehouse, "observed, expected", "check_name = 'ltv_stamped_with_as_of_date'") == [
        ("34 of 34 rows", "every row has as_of_date 2026-03-15, and there are rows")
    ]
    [(first, last)] = stored_results(warehouse, "min(checked_at), max(checked_at)")
    assert before <= first == last <= datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


def test_a_marts_validation_can_write_nothing(warehouse: Path) -> None:
    with (
        closing(rendered(LTV).get_db_hook().get_conn()) as connection,
        pytest.raises(duckdb.InvalidInputException, match="read-only"),
    ):
        connection.execute("create schema written")


def test_the_sources_validation_makes_the_tables_that_all_need_and_keeps_its_results(warehouse: Path) -> None:
    execute_in(warehouse, "drop schema ops cascade")
    points = load_catalog().marts[0].drift | {"points": next(iter(DRIFT[LTV].values()))}

    validate("sources", drift=points)

    assert stored_results(warehouse, "mart, passed") == [("sources", True)] * 8
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        assert connection.execute("select points from ops.publications").fetchall() == []


def test_failed_sources_are_kept(warehouse: Path) -> None:
    execute_in(warehouse, "delete from raw.customers")

    with pytest.raises(ValidationFailed, match=r"0 rows in raw\.customers"):
        validate("sources", drift={})

    assert stored_results(warehouse, "check_name", "not passed") == [("sources_customers_not_empty",)]


def kept_rows(file: Path) -> list[tuple]:
    with duckdb.connect(str(file), read_only=True) as connection:
        return connection.execute(
            "select dag_run_id, cast(as_of_date as varchar), mart, check_name, severity, row_key, reason "
            "from ops.failing_rows order by all"
        ).fetchall()


def test_the_keys_of_rows_at_fault_are_kept_handed_on_and_said_in_the_log(
    warehouse: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    execute_in(warehouse, update(LTV, "total_transactions = 2", "STABLE"))
    ti = TaskInstance()
    ti.task_id = f"validate_{LTV}"
    operator = rendered(LTV)
    with pytest.raises(ValidationFailed):
        operator.execute({"ti": ti})

    keep(ti, LTV)
    keep(ti, LTV)

    reason = "total_transactions is the number in core.fct_transactions, approved"
    check = "ltv_total_transactions_reconciles"
    assert kept_rows(warehouse) == [("run_1", AS_OF_DATE, LTV, check, "error", "STABLE", reason)]
    assert operator.failed_checks == [
        {
            "mart": LTV,
            "check": check,
            "observed": "1 customers differ, for example STABLE",
            "expected": reason,
            "examples": ["STABLE"],
        }
    ]
    assert f"Rows that fail {check}, by key: STABLE" in capsys.readouterr().out


def test_keys_of_rows_at_fault_are_kept_a_week_and_results_for_400_days(warehouse: Path) -> None:
    def planted(days: int, hours: int) -> str:
        return f"cast(now() at time zone 'utc' as timestamp) - interval {days} day - interval {hours} hour"

    rows = [("kept_rows", planted(6, 23)), ("old_rows", planted(7, 1))]
    results = [
        ("kept", "gone", planted(399, 23)),
        ("old", "gone", planted(400, 1)),
        ("stands", RUN_SCHEMA, planted(500, 0)),
    ]
    execute_in(
        warehouse,
        *(f"insert into ops.failing_rows (dag_run_id, found_at) values ('{run}', {at})" for run, at in rows),
        *(
            "insert into ops.validation_results (dag_run_id, run_schema, checked_at) "
            f"values ('{run}', '{schema}', {at})"
            for run, schema, at in results
        ),
    )
    ti = TaskInstance()
    validate(LTV, ti)

    keep(ti, LTV)

    assert [row[0] for row in kept_rows(warehouse)] == ["kept_rows"]
    # By the results of its run a schema that stands is known, which is not dropped yet.
    assert stored_results(warehouse, "distinct dag_run_id") == [("kept",), ("run_1",), ("stands",)]


def failed_test(name: str, sql: str) -> dict[str, dict[str, str]]:
    nodes = json.loads(MANIFEST.read_text())["nodes"].values()
    [unique_id] = [node["unique_id"] for node in nodes if node["name"] == name]
    return {unique_id: {"name": name, "severity": "error", "message": "Got 2 results", "sql": sql}}


@pytest.mark.parametrize(
    ("name", "rows", "model", "keys"),
    [
        # A test of a key returns it under another name, one of anything else its values.
        ("unique_dim_customer_customer_key", "'K1' as unique_field, 2 as n_records", "dim_customer", ["K1"]),
        ("not_null_dim_customer_customer_id", "'K1' as customer_key, 'Ada' as first_name", "dim_customer", ["K1"]),
        (
            "relationships_fct_transactions_customer_id__customer_id__ref_dim_customer_",
            "'NOBODY' as from_field",
            "fct_transactions",
            ["NOBODY"],
        ),
        (
            "customer_360_history_has_one_row_per_customer",
            "'C1' as customer_id, date '2026-03-15' as as_of_date, 2 as row_count",
            "customer_360_history",
            ["C1"],
        ),
    ],
)
def test_of_the_rows_that_fail_a_data_test_the_keys_are_kept_and_nothing_else(
    warehouse: Path, name: str, rows: str, model: str, keys: list[str]
) -> None:
    ti = TaskInstance()
    ti.xcoms["dbt_build", FAILED_TESTS] = failed_test(name, f"select {rows}")

    keep(ti)

    kept = [("run_1", AS_OF_DATE, model, name, "error", key, "Got 2 results") for key in keys]
    assert kept_rows(warehouse) == kept
    assert ti.xcoms["", EXAMPLES_BY_CHECK] == {name: keys}


def test_a_data_test_that_cannot_be_run_again_is_said_and_keeps_the_others(
    warehouse: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ti = TaskInstance()
    ti.xcoms["dbt_build", FAILED_TESTS] = {
        **failed_test("unique_dim_customer_customer_key", "select * from nowhere"),
        **failed_test("customer_360_history_has_one_row_per_customer", "select 'C1' as customer_id"),
    }
    keep(ti)
    assert [row[5] for row in kept_rows(warehouse)] == ["C1"]
    assert "The rows that fail unique_dim_customer_customer_key are not kept: Catalog Error" in capsys.readouterr().out


def test_results_are_kept_when_one_validation_failed_and_one_did_not_run(warehouse: Path) -> None:
    execute_in(
        warehouse, update(LTV, "total_transactions = 2", "STABLE"), f"drop table {RUN_SCHEMA}.customer_360_profile"
    )
    ti = TaskInstance()
    with pytest.raises(ValidationFailed):
        validate(LTV, ti)
    with pytest.raises(ValidationNotRun):
        validate(PROFILE, ti)
    validate(MOM, ti)

    assert keep(ti, LTV, PROFILE, MOM) == {LTV: 11, MOM: 12}
    assert stored_results(warehouse, "mart, check_name", "not passed") == [(LTV, "ltv_total_transactions_reconciles")]


def test_without_any_result_there_is_nothing_to_keep(warehouse: Path) -> None:
    with pytest.raises(AirflowSkipException, match="No validation ran"):
        keep(TaskInstance(), LTV, MOM)


def test_a_second_try_replaces_the_results_of_its_run_and_mart_only(warehouse: Path) -> None:
    earlier, ti = TaskInstance(), TaskInstance()
    validate(LTV, earlier, dag_run_id="run_0")
    keep(earlier, LTV, dag_run_id="run_0")
    validate(ATV, ti)
    validate(LTV, ti)
    keep(ti, ATV, LTV)
    execute_in(warehouse, update(LTV, "lifetime_value = 0", "STABLE"))

    with pytest.raises(ValidationFailed):
        validate(LTV, ti)
    keep(ti, ATV, LTV)

    assert stored_results(warehouse, "dag_run_id, mart, check_name", "not passed") == [
        ("run_1", LTV, "ltv_avg_spend_per_day_recomputes"),
        ("run_1", LTV, "ltv_lifetime_value_reconciles"),
    ]
    assert stored_results(warehouse, "dag_run_id, mart, count(*)", "true group by all") == [
        ("run_0", LTV, 11),
        ("run_1", ATV, 10),
        ("run_1", LTV, 11),
    ]


def test_a_second_try_that_was_killed_leaves_the_results_of_the_first(warehouse: Path) -> None:
    ti = TaskInstance()
    validate(LTV, ti)
    validate(ATV, ti)
    keep(ti, LTV, ATV)
    del ti.xcoms[f"validate_{LTV}", RESULTS]

    keep(ti, LTV, ATV)

    assert stored_results(warehouse, "mart, count(*)", "true group by all") == [(ATV, 10), (LTV, 11)]


def test_failure_names_mart_schema_check_observed_expected_and_next_step(warehouse: Path) -> None:
    execute_in(warehouse, update(LTV, "total_transactions = 2", "STABLE"))

    with pytest.raises(ValidationFailed) as failure:
        validate(LTV)

    message = str(failure.value)
    assert f"{LTV} in {RUN_SCHEMA} for 2026-03-15 failed 1 of 11 checks" in message
    assert (
        "- ltv_total_transactions_reconciles: observed 1 customers differ, for example STABLE; "
        "expected total_transactions is the number in core.fct_transactions, approved"
    ) in message
    assert "start a new run for as_of_date 2026-03-15" in message


def test_failed_validation_is_not_retried() -> None:
    assert issubclass(ValidationFailed, AirflowFailException)


def test_failed_warning_is_kept_and_does_not_fail(warehouse: Path) -> None:
    execute_in(warehouse, publication(LTV, 500, TOTAL_SPEND))

    ti = TaskInstance()
    counts = validate(LTV, ti, drift_severity="warn")
    keep(ti, LTV)

    assert counts == {"passed": 10, "warned": 1, "failed": 0}
    assert stored_results(warehouse, "check_name, severity", "not passed") == [("ltv_row_count_near_published", "warn")]


def test_log_shows_every_check_with_verdict_observed_and_expected(
    warehouse: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    execute_in(warehouse, publication(LTV, 500, TOTAL_SPEND), update(LTV, "total_transactions = 2", "STABLE"))

    with pytest.raises(ValidationFailed):
        validate(LTV, drift_severity="warn")

    out, err = capfd.readouterr()
    verdicts = re.findall(r"^(PASS|WARN|FAIL)  (\w+) +(.+?)  +(.+)$", out + err, flags=re.MULTILINE)
    assert len(verdicts) == 11
    assert ("WARN", "ltv_row_count_near_published") in [verdict[:2] for verdict in verdicts]
    assert (
        "FAIL",
        "ltv_total_transactions_reconciles",
        "1 customers differ, for example STABLE",
        "total_transactions is the number in core.fct_transactions, approved",
    ) in verdicts


@pytest.mark.parametrize("mart", NEVER_EMPTY)
def test_empty_mart_fails_the_task(warehouse: Path, mart: str) -> None:
    execute_in(warehouse, f"delete from {RUN_SCHEMA}.{mart}")

    with pytest.raises(ValidationFailed, match="0 of 0 rows"):
        validate(mart)


def test_dropped_run_schema_is_named_with_the_next_step(warehouse: Path) -> None:
    execute_in(warehouse, f"drop schema {RUN_SCHEMA} cascade")

    with pytest.raises(ValidationNotRun, match=rf"{LTV} could not run on schema {RUN_SCHEMA}[\s\S]*start a new run"):
        validate(LTV)


def check_row(passed: str, severity: str = "error") -> str:
    return f"select 'made_up' as check_name, '{severity}' as severity, '1' as observed, '2' as expected, {passed} as ok"


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        pytest.param(check_row("cast(null as boolean)"), "made_up: observed 1; expected 2", id="passed is NULL"),
        pytest.param(check_row("false", severity="fatal"), "made_up: observed 1; expected 2", id="unknown severity"),
        pytest.param(f"select * from ({check_row('true')}) where false", "returned no check", id="no check"),
    ],
)
def test_what_is_not_clearly_passed_fails(warehouse: Path, sql: str, message: str) -> None:
    operator = rendered(LTV)
    operator.sql = sql

    with pytest.raises(ValidationFailed, match=message):
        operator.execute({"ti": TaskInstance()})
