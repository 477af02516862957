"""What the note of a run says."""

from __future__ import annotations

from plugins.customer_360_notes import note_of

CHECKED = {
    ("validate_sources", "return_value"): {"passed": 3, "warned": 0, "failed": 0},
    ("validate_marts.validate_customer_segments", "return_value"): {"passed": 13, "warned": 1, "failed": 0},
}
PRODUCER = "dbt_build.dbt_producer_watcher"


def test_a_published_run_says_rows_and_checks() -> None:
    xcoms = CHECKED | {("publish", "return_value"): {"customer_segments": 50000, "metric_mom_spend_change": 814876}}
    assert note_of("2026-03-30", {"publish": "success"}, xcoms, ["publish"], "success") == [
        "As of 2026-03-30: published customer_segments 50,000, metric_mom_spend_change 814,876.",
        "Checks: 16 passed, 1 warned.",
    ]


def test_a_failed_task_is_named_with_its_reason_and_the_run_that_replaces_it() -> None:
    states = {PRODUCER: "failed", "publish": "upstream_failed"}
    xcoms = {(PRODUCER, "why"): {"reason": "dim_date: 250003: no answer", "transient": True}}
    xcoms |= {("run_again", "trigger_run_id"): "attempt_2__manual__1"}
    assert note_of("2026-03-30", states, xcoms, [PRODUCER, "publish"], "task_failure") == [
        "As of 2026-03-30: nothing published. dbt_build.dbt_producer_watcher failed: dim_date: 250003: no answer",
        "Replaced by attempt_2__manual__1.",
    ]


def test_a_killed_task_is_named_too() -> None:
    [note] = note_of("2026-03-30", {"publish": "failed"}, {}, ["publish"], "task_failure")
    assert note.endswith(
        "nothing published. publish failed: it was killed, or its worker was lost; if memory ran out, lower "
        "WAREHOUSE_MEMORY or give the worker more, else a new run does"
    )


def test_a_run_that_publishes_nothing_because_newer_marts_are_published_says_so() -> None:
    xcoms = {("publish", "why"): {"reason": "The published marts are of 2026-03-31.", "transient": False}}
    assert note_of("2026-03-01", {"publish": "skipped"}, xcoms, [], "success") == [
        "As of 2026-03-01: nothing published: The published marts are of 2026-03-31."
    ]


def test_a_run_that_timed_out_says_so() -> None:
    [note] = note_of("2026-03-30", {"publish": None}, {}, [], "timed_out")
    assert note == "As of 2026-03-30: nothing published. The run was ended: timed_out."


def test_an_export_says_how_many_customers_each_campaign_has() -> None:
    names = ["export_premium csv", "export_premium google", "export_retention csv"]
    xcoms = {
        (names[0], "return_value"): {"campaign": "premium", "destination": "csv", "row_count": 5000},
        (names[1], "return_value"): {"campaign": "premium", "destination": "google", "row_count": 1000},
        (names[2], "return_value"): {"campaign": "retention", "destination": "csv", "row_count": 0},
    }
    assert note_of("2026-03-30", dict.fromkeys(names, "success"), xcoms, [], "success") == [
        "As of 2026-03-30: exported premium 5,000, premium to google 1,000, retention 0."
    ]


def test_an_audience_that_was_not_approved_is_named() -> None:
    states = {"export_premium csv": "success", "approve_retention": "success", "export_retention csv": "skipped"}
    xcoms = {
        ("export_premium csv", "return_value"): {"campaign": "premium", "destination": "csv", "row_count": 5000},
        ("approve_premium", "return_value"): {"chosen_options": ["Approve"]},
        ("approve_retention", "return_value"): {"chosen_options": ["Reject"]},
    }
    assert note_of("2026-03-30", states, xcoms, [], "success") == [
        "As of 2026-03-30: exported premium 5,000; retention was not approved."
    ]


def test_a_dry_run_says_its_counts() -> None:
    counts = "A dry run, nothing is written or exported. premium: 1 eligible = 0 suppressed + 1 exported; 1 entered."
    xcoms = {("decide_audiences", "why"): {"reason": counts, "transient": False}}
    assert note_of("2026-03-30", {"decide_audiences": "skipped"}, xcoms, [], "success") == [
        f"As of 2026-03-30: nothing exported: {counts}"
    ]
