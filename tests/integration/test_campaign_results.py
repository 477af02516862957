"""What a campaign changed, against the same computed in plain Python, and against campaigns whose effect is known."""

from __future__ import annotations

import math
import random
import shutil
import statistics
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import duckdb
import pytest
from airflow.sdk import DAG
from edge_customers import AS_OF_DATE
from warehouse_builds import Build, DbtBuilds

from benchmarks.simulated_campaigns import SimulatedCampaigns, Simulation
from include.customer_360.operators.validate import ValidateMartOperator
from include.customer_360.settings import TEMPLATE_FOLDERS

# Of 200 campaigns an interval that is right 95 times in 100 has the true lift of fewer than 179, or of all, once in
# 2,000 cases; as rarely more than 21 without an effect are found to have one.
CAMPAIGNS, FEWEST_COVERED, MOST_COVERED, MOST_FALSE = 200, 179, 199, 21
HORIZONS = (30, 60, 90)
WAVES = [AS_OF_DATE - timedelta(days=days) for days in (29, 30, 60, 61, 120)]
MODELS = "run --select stg_audience_memberships fct_campaign_entries campaign_results"
FIGURES = (
    "theta", "plain_lift", "plain_lift_low", "plain_lift_high", "lift", "lift_low", "lift_high", "lift_standard_error",
    "minimum_detectable_effect", "lift_pct", "variance_reduction_pct", "total_effect", "total_effect_low",
    "total_effect_high",
)  # fmt: skip
Wave = tuple[str, date, int]
Spend = dict[str, list[tuple[float, float]]]


@pytest.fixture(scope="module")
def results(built: Build, dbt_builds: DbtBuilds, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built warehouse with memberships by chance, some of which are no entries, and the mart made of them."""
    file = tmp_path_factory.mktemp("results") / "results.duckdb"
    shutil.copyfile(built.file, file)
    chance = random.Random(20261126)
    with duckdb.connect(str(file)) as connection:
        customers = connection.execute("select customer_id from core.dim_customer order by 1").fetchall()
        connection.execute(
            "create schema if not exists ops; create or replace table ops.audience_memberships (campaign varchar, "
            "as_of_date date, customer_id varchar, status varchar, split_group varchar, entered boolean)"
        )
        rows = []
        for campaign, wave, (customer,) in product(("premium", "retention"), WAVES, customers):
            status = chance.choice(["exported", "exported", "held_out", "suppressed", "capped", "over_limit"])
            group = "control" if status == "held_out" else "treated"
            rows.append((campaign, wave, customer, status, group, chance.random() < 0.8))
        # Two treated, and nobody held out.
        rows += [("onboarding", WAVES[2], customer, "exported", "treated", True) for (customer,) in customers[:2]]
        connection.executemany("insert into ops.audience_memberships values (?, ?, ?, ?, ?, ?)", rows)
    dbt_builds.run(file, [MODELS], AS_OF_DATE)
    return Path(shutil.copyfile(dbt_builds.warehouse, file.with_name("with_results.duckdb")))


def spend_by_wave(file: Path) -> dict[Wave, Spend]:
    """Return (spend before, spend after) of each entrant, by group, for each wave and horizon that is over."""
    with duckdb.connect(str(file), read_only=True) as connection:
        purchases = defaultdict(list)
        for customer, day, amount in connection.execute(
            "select customer_id, transaction_date, transaction_amount from core.fct_transactions "
            "where status = 'approved'"
        ).fetchall():
            purchases[customer].append((day, Fraction(amount)))
        entries = connection.execute(
            "select campaign, as_of_date, customer_id, split_group from ops.audience_memberships "
            "where entered and status in ('exported', 'held_out')"
        ).fetchall()
    waves: dict[Wave, Spend] = {}
    for (campaign, wave, customer, group), horizon in product(entries, HORIZONS):
        days = timedelta(days=horizon)
        if wave + days > AS_OF_DATE:
            continue
        before = sum(amount for day, amount in purchases[customer] if wave - days < day <= wave)
        after = sum(amount for day, amount in purchases[customer] if wave < day <= wave + days)
        groups = waves.setdefault((campaign, wave, horizon), {"treated": [], "control": []})
        groups[group].append((float(before), float(after)))
    return waves


def density_of_t(value: float, degrees: float) -> float:
    gammas = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)
    return math.exp(gammas) / math.sqrt(degrees * math.pi) * (1 + value * value / degrees) ** (-(degrees + 1) / 2)


def quantile_of_t(probability: float, degrees: float) -> float:
    """Return the quantile, by Simpson's rule and bisection."""

    def below(value: float, steps: int = 400) -> float:
        width = value / steps
        weights = (1 if step in (0, steps) else 4 if step % 2 else 2 for step in range(steps + 1))
        return 0.5 + width / 3 * sum(
            weight * density_of_t(step * width, degrees) for step, weight in enumerate(weights)
        )

    low, high = 0.0, 40.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < probability else (low, middle)
    return low


def lift(spend: Spend, theta: float) -> dict[str, float]:
    """Return the lift of the spend after less theta times the spend before, and its interval (Welch)."""
    groups = {group: [after - theta * before for before, after in each] for group, each in spend.items()}
    treated, control = groups["treated"], groups["control"]
    parts = [statistics.variance(group) / len(group) for group in (treated, control)]
    degrees = sum(parts) ** 2 / sum(
        part**2 / (len(group) - 1) for part, group in zip(parts, (treated, control), strict=True)
    )
    error = math.sqrt(sum(parts))
    value = statistics.fmean(treated) - statistics.fmean(control)
    margin = quantile_of_t(0.975, degrees) * error
    return {
        "lift": value,
        "low": value - margin,
        "high": value + margin,
        "error": error,
        "detectable": margin + quantile_of_t(0.8, degrees) * error,
    }


def rows_of(file: Path) -> Iterator[tuple[Wave, dict[str, Any]]]:
    with duckdb.connect(str(file), read_only=True) as connection:
        found = connection.execute("select * from marts.campaign_results")
        names = [column[0] for column in found.description]
        for values in found.fetchall():
            row = dict(zip(names, values, strict=True))
            yield (row["campaign"], row["wave_date"], row["horizon_days"]), row


def test_each_wave_and_horizon_that_is_over_has_the_result_that_plain_python_computes(results: Path) -> None:
    expected = spend_by_wave(results)
    found = dict(rows_of(results))
    assert found.keys() == expected.keys()
    # Of the five waves of two campaigns four are 30 days old, three 60, and one 90.
    assert len(found) == 2 * (4 + 3 + 1) + 2
    for key, row in found.items():
        spend = expected[key]
        assert (row["treated_customers"], row["held_out_customers"]) == (len(spend["treated"]), len(spend["control"]))
        for group, name in (("treated", "treated"), ("control", "held_out")):
            for side, when in enumerate(("before", "after")):
                total = round(sum(each[side] for each in spend[group]), 2)
                assert float(row[f"{name}_spend_{when}"]) == total
                per_customer = row[f"{name}_spend_{when}_per_customer"]
                assert per_customer is None or float(per_customer) == pytest.approx(total / len(spend[group]), abs=6e-5)
        if key[0] == "onboarding":
            assert (row["lift"], row["theta"], row["is_significant"], row["held_out_customers"]) == (
                None,
                None,
                None,
                0,
            )
            continue
        everybody = spend["treated"] + spend["control"]
        before, after = ([each[side] for each in everybody] for side in (0, 1))
        theta = statistics.covariance(before, after) / statistics.variance(before)
        plain, adjusted = lift(spend, 0), lift(spend, theta)
        held_out_after = statistics.fmean(each[1] for each in spend["control"])
        assert {name: float(row[name]) for name in FIGURES} == pytest.approx(
            {
                "theta": theta,
                "plain_lift": plain["lift"],
                "plain_lift_low": plain["low"],
                "plain_lift_high": plain["high"],
                "lift": adjusted["lift"],
                "lift_low": adjusted["low"],
                "lift_high": adjusted["high"],
                "lift_standard_error": adjusted["error"],
                "minimum_detectable_effect": adjusted["detectable"],
                "lift_pct": 100 * adjusted["lift"] / held_out_after,
                "variance_reduction_pct": 100 * (1 - adjusted["error"] ** 2 / plain["error"] ** 2),
                "total_effect": adjusted["lift"] * len(spend["treated"]),
                "total_effect_low": adjusted["low"] * len(spend["treated"]),
                "total_effect_high": adjusted["high"] * len(spend["treated"]),
            },
            rel=1e-5,
            abs=0.006,
        )
        assert row["is_significant"] == (adjusted["low"] > 0 or adjusted["high"] < 0)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> SimulatedCampaigns:
    return SimulatedCampaigns(tmp_path_factory.mktemp("simulated"), 3000)


def simulation(simulated: SimulatedCampaigns, effect: float) -> Simulation:
    """Campaigns that half of 3,000 customers enter, with a fifth held out."""
    simulated.plant(effect)
    found = simulated.run(CAMPAIGNS, entering_share=0.5, holdout_share=0.2)
    assert found.fewest_held_out >= 250
    return found


def test_campaigns_without_an_effect_are_rarely_found_to_have_one(simulated: SimulatedCampaigns) -> None:
    found = simulation(simulated, effect=0)
    assert found.true_lift == 0
    assert 0 < found.significant_pct * CAMPAIGNS / 100 <= MOST_FALSE
    assert FEWEST_COVERED <= found.coverage_pct * CAMPAIGNS / 100 <= MOST_COVERED


def test_the_interval_has_an_effect_of_8_percent_and_is_much_narrower_than_the_plain_one(
    simulated: SimulatedCampaigns,
) -> None:
    found = simulation(simulated, effect=0.08)
    assert found.true_lift > 0
    assert FEWEST_COVERED <= found.coverage_pct * CAMPAIGNS / 100 <= MOST_COVERED
    assert FEWEST_COVERED <= found.plain_coverage_pct * CAMPAIGNS / 100 <= MOST_COVERED
    assert found.interval_ratio <= 0.8
    # Four standard errors of the mean of all estimates.
    spread = statistics.stdev(each.lift for each in found.estimates) / math.sqrt(CAMPAIGNS)
    assert abs(found.bias) < 4 * spread


def test_the_validation_agrees_with_results_of_any_size(results: Path) -> None:
    with DAG("refresh", schedule=None, template_searchpath=TEMPLATE_FOLDERS):
        validate = ValidateMartOperator(
            task_id="validate_campaign_results",
            mart="campaign_results",
            drift=None,
            run_schema="marts",
            as_of_date=AS_OF_DATE.isoformat(),
        )
    validate.resolve_template_files()
    validate.render_template_fields({"run_id": "run_1", "params": {}})
    with duckdb.connect(str(results), read_only=True) as connection:
        [(largest,)] = connection.execute("select max(lift_high) from marts.campaign_results").fetchall()
        failed = [row for row in connection.execute(validate.sql).fetchall() if not row[-1]]
    assert largest > 1000
    assert failed == []
