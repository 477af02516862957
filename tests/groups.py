"""Which tests share what is made once, so that one process runs them, one after the other."""

from __future__ import annotations

# Files that share what is made once: an Airflow; what the documented commands left; an emulator, whose statements are
# looked at in the files' order.
SHARED_AIRFLOW = ("test_refresh.py", "test_watchers.py", "test_benchmarks.py", "test_routes.py")
SHARED_RUN_OF_COMMANDS = ("test_documented_commands.py", "test_scaffolds.py")
WITHOUT_THE_EMULATOR = (
    "test_setup.py",
    "test_random_loads.py",
    "test_refresh_on_snowflake.py",
    "test_bad_values.py",
)


def group_of(nodeid: str) -> str:
    """Return the group that a test belongs to: its file, or the files that share with it."""
    file = nodeid.partition("::")[0]
    if file.startswith("tests/end_to_end/") and file.endswith(SHARED_AIRFLOW):
        return "airflow"
    if file.startswith("tests/end_to_end/") and file.endswith(SHARED_RUN_OF_COMMANDS):
        return "commands"
    if file.startswith("tests/snowflake/") and not file.endswith(WITHOUT_THE_EMULATOR):
        return "emulator"
    return file
