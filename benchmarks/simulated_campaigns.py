"""Campaigns whose effect is known, estimated by the SQL of the mart campaign_results: does its interval hold?

The customers are those of a sample, with what they spent in the 30 days before and after a wave. For each campaign
some of them enter by a hash of its name, and are held out by the hash that decides it every night. A planted effect
raises what each treated customer spends afterwards.
"""

from __future__ import annotations

import datetime
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import NamedTuple

import duckdb

from include.customer_360.catalog import load_catalog
from include.customer_360.settings import DBT_PROJECT
from local.sample import write_sample

HORIZON_DAYS = 30
AS_OF_DATE = datetime.date(2026, 11, 21)
WAVE_DATE = AS_OF_DATE - datetime.timedelta(days=HORIZON_DAYS)
# So many campaigns are estimated by one statement.
BATCH = 100
SEED = 20261126

_POPULATION = f"""
    create or replace table population as
    with transactions as (
        select distinct on (transaction_id)
            customer_id,
            try_cast(transaction_date as date) as transaction_date,
            try_cast(transaction_amount as decimal(18, 2)) as amount
        from sources.raw.transactions
        where
            status = 'approved'
            and try_cast(transaction_amount as decimal(18, 2)) > 0
            and try_cast(transaction_date as date) > date '{WAVE_DATE}' - {HORIZON_DAYS}
            and try_cast(transaction_date as date) <= date '{AS_OF_DATE}'
        order by transaction_id
    )
    select
        customers.customer_id,
        coalesce(sum(amount) filter (transaction_date <= date '{WAVE_DATE}'), 0) as spend_before,
        coalesce(sum(amount) filter (transaction_date > date '{WAVE_DATE}'), 0) as spend_after,
        round(spend_after * (1 + $effect), 2) as spend_after_when_treated
    from sources.raw.customers
    left join transactions on customers.customer_id = transactions.customer_id
    group by customers.customer_id
"""
# A customer who is treated is another one to the mart, who spent the same before.
_FACT = f"""
    create or replace table core.fct_transactions as
    select customer_id, date '{WAVE_DATE}' as transaction_date, spend_before as transaction_amount, 'approved' as status
    from population
    union all
    select customer_id, date '{WAVE_DATE}' + 1, spend_after, 'approved' from population
    union all
    select customer_id || ' treated', date '{WAVE_DATE}', spend_before, 'approved' from population
    union all
    select customer_id || ' treated', date '{WAVE_DATE}' + 1, spend_after_when_treated, 'approved' from population
"""
_ENTRIES = Template(f"""
    create or replace table core.fct_campaign_entries as
    with entrants as (
        select
            'seed $seed campaign ' || number as campaign,
            customer_id,
            substr(md5(campaign || '|salt|' || customer_id), 1, 8) < '$threshold' as held_out
        from range($first, $last) as campaigns (number), population
        where md5_number_lower('$seed enters ' || number || ' ' || customer_id) / 18446744073709551616.0 < $share
    )
    select
        campaign,
        date '{WAVE_DATE}' as wave_date,
        case when held_out then customer_id else customer_id || ' treated' end as customer_id,
        case when held_out then 'control' else 'treated' end as split_group
    from entrants
""")


_LIFTS = ("plain_lift", "plain_lift_low", "plain_lift_high", "lift", "lift_low", "lift_high")
_COLUMNS = ("held_out_customers", *(f"{lift}::double" for lift in _LIFTS), "is_significant")


class Estimate(NamedTuple):
    """What campaign_results says of one campaign, in dollars per customer."""

    held_out_customers: int
    plain_lift: float
    plain_lift_low: float
    plain_lift_high: float
    lift: float
    lift_low: float
    lift_high: float
    is_significant: bool


@dataclass(frozen=True)
class Simulation:
    """What many campaigns with the same true lift (dollars per customer) were estimated at."""

    true_lift: float
    estimates: list[Estimate]

    @property
    def fewest_held_out(self) -> int:
        return min(estimate.held_out_customers for estimate in self.estimates)

    @property
    def held_out(self) -> float:
        """Customers held out of a campaign, median."""
        return statistics.median(estimate.held_out_customers for estimate in self.estimates)

    @property
    def coverage_pct(self) -> float:
        """Of how many campaigns in 100 the 95 % interval has the true lift."""
        return self._pct(each.lift_low <= self.true_lift <= each.lift_high for each in self.estimates)

    @property
    def plain_coverage_pct(self) -> float:
        """The same of the interval without the spend before."""
        return self._pct(each.plain_lift_low <= self.true_lift <= each.plain_lift_high for each in self.estimates)

    @property
    def significant_pct(self) -> float:
        """Of how many campaigns in 100 the result is significant: false positives, if there is no effect."""
        return self._pct(each.is_significant for each in self.estimates)

    @property
    def interval_ratio(self) -> float:
        """How wide the interval is against the plain one, median of the campaigns."""
        return statistics.median(
            (each.lift_high - each.lift_low) / (each.plain_lift_high - each.plain_lift_low) for each in self.estimates
        )

    @property
    def bias(self) -> float:
        """The mean of the estimates less the true lift, dollars per customer."""
        return statistics.fmean(each.lift for each in self.estimates) - self.true_lift

    def _pct(self, true: Iterator[bool]) -> float:
        return 100 * sum(true) / len(self.estimates)


class SimulatedCampaigns:
    """A warehouse with nothing but a population, what it spends with and without an effect, and campaigns' entries."""

    def __init__(self, folder: Path, customers: int) -> None:
        self.file = folder / "simulated.duckdb"
        self.sources = folder / "simulated_sources.duckdb"
        write_sample(self.sources, customers=customers, months=3, seed=SEED, as_of_date=AS_OF_DATE)
        with duckdb.connect(str(self.file)) as connection:
            connection.execute("create schema core")
        self.sql = self._compiled(folder / "simulated_target")

    def plant(self, effect: float) -> None:
        """Have each treated customer spend more after the wave, from now on.

        :param effect: 0.08 is 8 % more.
        """
        with duckdb.connect(str(self.file)) as connection:
            connection.execute(f"attach '{self.sources}' as sources (read_only)")
            connection.execute(_POPULATION, {"effect": effect})
            connection.execute(_FACT)
            [(self.true_lift,)] = connection.execute(
                "select avg(spend_after_when_treated - spend_after)::double from population"
            ).fetchall()

    def run(self, campaigns: int, *, entering_share: float, holdout_share: float = 0.05) -> Simulation:
        """Estimate campaigns, each of which a share of the population enters; a share of those is held out."""
        threshold = load_catalog().campaigns[0].model_copy(update={"holdout_share": holdout_share}).holdout_threshold
        estimates: list[Estimate] = []
        with duckdb.connect(str(self.file)) as connection:
            for first in range(0, campaigns, BATCH):
                values = {
                    "seed": SEED,
                    "threshold": threshold,
                    "first": first,
                    "last": min(first + BATCH, campaigns),
                    "share": entering_share,
                }
                connection.execute(_ENTRIES.substitute(values))
                estimates += [
                    Estimate(*row)
                    for row in connection.execute(
                        f"select {', '.join(_COLUMNS)} from ({self.sql}) order by campaign"
                    ).fetchall()
                ]
        assert len(estimates) == campaigns
        return Simulation(self.true_lift, estimates)

    def _compiled(self, target: Path) -> str:
        """Return the select of the model, as dbt compiles it for this warehouse."""
        subprocess.run(
            [
                *(str(Path(sys.executable).with_name("dbt")), "compile", "--select", "campaign_results"),
                *("--target-path", str(target), "--log-path", str(target)),
            ],
            cwd=DBT_PROJECT,
            env=os.environ
            | {
                "WAREHOUSE": "duckdb",
                "WAREHOUSE_FILE": str(self.file),
                "AS_OF_DATE": str(AS_OF_DATE),
                "RUN_SCHEMA": "",
            },
            capture_output=True,
            check=True,
        )
        [model] = (target / "compiled").rglob("campaign_results.sql")
        return model.read_text(encoding="utf-8")
