"""The file of the roles: what it takes, and what it says of what it does not take."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.roles import RolesError, load_roles
from include.customer_360.settings import PROJECT_ROOT

ROLE = "  service:\n    label: Service\n    pages: [customer]\n    personal_data: true\n    export_lists: false\n"


@pytest.fixture
def roles_file(tmp_path: Path) -> Path:
    return tmp_path / "roles.yml"


def test_the_projects_roles_name_nobody() -> None:
    roles = load_roles(PROJECT_ROOT / "app" / "roles.yml").roles
    assert {name: role.readers for name, role in roles.items()} == dict.fromkeys(
        ("executive", "marketing", "service", "operations"), ()
    )


def test_only_service_sees_names_and_only_marketing_takes_lists() -> None:
    roles = load_roles(PROJECT_ROOT / "app" / "roles.yml").roles
    assert [name for name, role in roles.items() if role.personal_data] == ["service"]
    assert [name for name, role in roles.items() if role.export_lists] == ["marketing"]


def test_a_reader_is_found_by_address_in_any_case(roles_file: Path) -> None:
    roles_file.write_text(f"roles:\n{ROLE}    readers: [Ann@mail.example.com]\n")
    assert list(load_roles(roles_file).of(" ann@MAIL.example.com")) == ["service"]


@pytest.mark.parametrize("address", ["", "  ", "bob@mail.example.com"])
def test_who_is_not_listed_has_no_role(roles_file: Path, address: str) -> None:
    roles_file.write_text(f"roles:\n{ROLE}    readers: ['', ann@mail.example.com]\n")
    assert load_roles(roles_file).of(address) == {}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (f"roles:\n{ROLE}    reader: [ann]\n", "roles.service.reader=['ann']"),
        ("roles:\n" + ROLE.replace("customer", "customers"), "roles.service.pages.0='customers'"),
        ("roles:\n" + ROLE.replace("true", "'yes'"), "roles.service.personal_data='yes'"),
        (f"roles:\n{ROLE}" + ROLE.replace("  service", "  other"), "label Service stands twice"),
        ("roles: {}\n", "roles={}"),
        ("roles: [\n", "are no yml"),
        ("", "the file=None"),
    ],
)
def test_what_cannot_be_used_is_named(roles_file: Path, text: str, named: str) -> None:
    roles_file.write_text(text)
    with pytest.raises(RolesError) as refused:
        load_roles(roles_file)
    assert str(roles_file) in str(refused.value)
    assert named in str(refused.value)


def test_a_missing_file_names_the_setting(roles_file: Path) -> None:
    with pytest.raises(RolesError, match=r"roles.yml, cannot be read: .*Set SCREENS_ROLES"):
        load_roles(roles_file)
