"""Who is let in: without a login only this machine, with one only who has a role."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from streamlit import config
from streamlit.config_option import ConfigOption
from streamlit.runtime.context import ContextProxy, StreamlitHeaders

from app import reader, serve
from app.login import LoginError
from app.reader import Reader, is_loopback, verified_address
from app.roles import Role, load_roles
from app.screens_log import NotLogged, write_down
from include.customer_360.settings import PROJECT_ROOT, Settings
from tests.screens.conftest import Screen


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8501", "127.0.0.1:8501", "127.1.2.3", "[::1]:8501", "::1"])
def test_these_are_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "192.168.0.4:8501", "[fe80::1]:8501", "localhost.example.com", "screens.example.com", ""]
)
def test_these_are_not(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("address", ["0.0.0.0", None])
def test_without_a_login_nothing_is_shown_on_an_open_address(screen: Screen, address: str | None) -> None:
    config.set_option("server.address", address)
    shown = screen()
    [error] = shown.error
    assert "no login is configured: anyone who reaches this machine would see the customers" in error.value
    assert not shown.title
    assert not shown.sidebar.selectbox


def test_make_app_refuses_an_open_address_without_a_login(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCREENS_ADDRESS", "0.0.0.0")
    with pytest.raises(serve.ServeError, match=r"SCREENS_ADDRESS=0\.0\.0\.0 lets other machines .*no login"):
        serve.command(Settings())


def test_make_app_takes_it_with_a_login(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = tmp_path / "secrets.toml"
    secrets.write_text('[auth]\nredirect_uri = "https://screens.example.com/oauth2callback"\n')
    monkeypatch.setenv("SCREENS_SECRETS", str(secrets))
    monkeypatch.setenv("SCREENS_ADDRESS", "0.0.0.0")
    assert serve.command(Settings())[-6:-2] == ["--server.address", "0.0.0.0", "--server.port", "8501"]


BROKEN = {"[auth\n": "cannot be read", "[oauth]\n": r"has no section \[auth\]", "": r"has no section \[auth\]"}


@pytest.mark.parametrize("text", [*BROKEN, None])
def test_a_login_that_is_asked_for_and_not_there_is_never_none(
    screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    secrets = tmp_path / "secrets.toml"
    if text is not None:
        secrets.write_text(text)
    monkeypatch.setenv("SCREENS_SECRETS", str(secrets))
    said = "does not exist" if text is None else BROKEN[text]
    with pytest.raises(LoginError, match=rf"secrets\.toml,? {said}"):
        serve.command(Settings())
    monkeypatch.setitem(config.get_config_options(), "secrets.files", secrets_files(secrets))
    shown = screen()
    assert re.search(said, shown.error[0].value)
    assert not shown.title


def secrets_files(*files: Path) -> ConfigOption:
    option = ConfigOption("secrets.files", default_val=[str(file) for file in files])
    option.set_value([str(file) for file in files], "a test")
    return option


def test_a_broken_file_that_no_setting_names_is_not_none_either(
    screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = tmp_path / "secrets.toml"
    monkeypatch.setitem(config.get_config_options(), "secrets.files", secrets_files(secrets))
    secrets.write_text("[auth\n")
    assert "cannot be read" in screen().error[0].value
    secrets.unlink()
    assert not screen().error


@pytest.mark.parametrize("header", ["X-Forwarded-For", "x-forwarded-proto", "Forwarded", "Via", "X-Real-IP"])
def test_without_a_login_nothing_is_shown_through_a_proxy(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, header: str
) -> None:
    headers = StreamlitHeaders([("Host", "localhost:8501"), (header, "203.0.113.7")])
    monkeypatch.setattr(ContextProxy, "headers", property(lambda _: headers))
    shown = screen()
    assert f"came through a proxy (header {header.lower()}), and no login is configured" in shown.error[0].value
    assert not shown.title


@pytest.mark.parametrize(
    ("claims", "unverified_addresses", "address"),
    [
        ({"email_verified": True}, False, "ann@mail.example.com"),
        ({"email_verified": "true"}, False, "ann@mail.example.com"),
        ({"email_verified": "false"}, False, ""),
        ({"email_verified": False}, False, ""),
        ({"email_verified": 1}, False, ""),
        ({"email_verified": None}, False, ""),
        ({}, False, ""),
        ({}, True, "ann@mail.example.com"),
        ({"email_verified": "false"}, True, ""),
        ({"email_verified": False}, True, ""),
    ],
)
def test_an_address_counts_when_the_provider_has_verified_it(
    claims: dict[str, object], unverified_addresses: bool, address: str
) -> None:
    assert verified_address({"email": "ann@mail.example.com", **claims}, unverified_addresses) == address


def test_addresses_of_which_nobody_says_that_they_are_verified_are_not_taken_by_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not Settings().screens_unverified_addresses
    monkeypatch.setenv("SCREENS_UNVERIFIED_ADDRESSES", "1")
    assert Settings().screens_unverified_addresses


def test_git_does_not_take_the_file_of_the_login() -> None:
    file = Settings.model_fields["screens_secrets"].default
    ignored = subprocess.run(["git", "check-ignore", "--quiet", "--no-index", str(file)], cwd=PROJECT_ROOT, check=False)
    assert ignored.returncode == 0


def test_make_app_without_a_copy_says_what_makes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAREHOUSE_FILE", str(tmp_path / "warehouse.duckdb"))
    with pytest.raises(serve.ServeError, match=r"no published copy .*published\.duckdb yet: `make refresh`"):
        serve.command(Settings())


def test_who_has_logged_in_without_a_role_sees_no_page(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "roles_of_reader", lambda: ("eve@mail.example.com", {}))
    shown = screen()
    [error] = shown.error
    assert error.value.startswith("eve@mail.example.com has no role on these screens.")
    assert not shown.title


def test_a_single_role_is_not_asked_for(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    roles = load_roles(PROJECT_ROOT / "app" / "roles.yml").roles
    monkeypatch.setattr(
        reader, "roles_of_reader", lambda: ("ann@mail.example.com", {"operations": roles["operations"]})
    )
    shown = screen()
    assert not shown.sidebar.selectbox
    assert [title.value for title in shown.title] == ["Nights"]


SERVICE = Reader("ann", "service", Role(label="S", pages=("customer",), personal_data=True, export_lists=False))


def test_a_look_up_is_a_line_of_the_log(settings: Settings) -> None:
    write_down(SERVICE, "look_up", "CUST00000001", {"by": "customer_id"}, marts=None)
    write_down(SERVICE, "list_export", None, {"rows": 3}, marts=None)
    first, second = map(json.loads, settings.screens_log_file.read_text().splitlines())
    assert {name: first[name] for name in first if name not in ("event_id", "happened_at")} == {
        "reader": "ann",
        "role": "service",
        "event": "look_up",
        "customer_id": "CUST00000001",
        "detail": '{"by": "customer_id"}',
    }
    assert (second["event"], second["customer_id"], second["detail"]) == ("list_export", None, '{"rows": 3}')
    assert first["event_id"] != second["event_id"]
    assert settings.screens_log_file.stat().st_mode & 0o777 == 0o600


def test_a_log_that_cannot_be_written_is_an_error(settings: Settings) -> None:
    settings.screens_log_file.mkdir()
    with pytest.raises(NotLogged, match=r"screens_log\.jsonl cannot be written: .*so nothing is shown"):
        write_down(SERVICE, "look_up", "CUST00000001", {}, marts=None)


def test_a_disk_that_takes_half_a_line_keeps_none_of_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    write_down(SERVICE, "look_up", "CUST00000001", {}, marts=None)
    whole = settings.screens_log_file.read_text()
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:9]))
        with pytest.raises(NotLogged, match="No space left on device"):
            write_down(SERVICE, "look_up", "CUST00000002", {}, marts=None)
    assert settings.screens_log_file.read_text() == whole


def test_half_a_line_that_a_crash_left_does_not_swallow_the_next(settings: Settings) -> None:
    settings.screens_log_file.write_text('{"event_id": "hal')
    write_down(SERVICE, "look_up", "CUST00000001", {}, marts=None)
    half, whole = settings.screens_log_file.read_text().splitlines()
    assert half == '{"event_id": "hal'
    assert json.loads(whole)["customer_id"] == "CUST00000001"


def test_the_folder_of_a_new_log_is_on_the_disk_too(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: kept.append(Path(f"/proc/self/fd/{descriptor}").resolve()))
    for _ in range(2):
        write_down(SERVICE, "look_up", "CUST00000001", {}, marts=None)
    assert kept == [settings.screens_log_file, settings.screens_log_file.parent, settings.screens_log_file]
