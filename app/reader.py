"""Who looks at the screens, and in which role: as the login has it, or whoever sits at this machine."""

from __future__ import annotations

import getpass
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from app import login
from app.roles import Role, RolesError, load_roles
from include.customer_360.settings import load_settings

ROLE = "role"
CHOSEN = "chosen_role"
LOOPBACK_NAMES = ("localhost",)
PROXY_HEADERS = ("forwarded", "via", "x-real-ip")
FORWARDED = "x-forwarded-"


@dataclass(frozen=True)
class Reader:
    """Who looks, and what they may see."""

    name: str
    role_name: str
    role: Role


def is_loopback(host: str) -> bool:
    """Tell whether an address, with or without a port, is one of this machine's own."""
    name = host.strip()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    if name.lower() in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def has_login() -> bool:
    """Tell whether readers log in here; in Snowflake they have done so before.

    :raises LoginError: when that cannot be told, or SCREENS_SECRETS asks for a login that is not there.
    """
    settings = load_settings()
    if settings.warehouse == "snowflake":
        return False
    return _has_login(tuple(st.get_option("secrets.files")), settings.asks_for_login)


# Kept until the screens are started anew: a file that is taken away meanwhile takes no login away.
@st.cache_resource(show_spinner=False)
def _has_login(files: tuple[str, ...], wanted: bool) -> bool:
    return login.has_login(map(Path, files), wanted)


def why_refused() -> str:
    """Return why nobody is served: without a login the app answers to its own machine only; empty when it may.

    :raises LoginError: when it cannot be told whether there is a login.
    """
    if has_login() or load_settings().warehouse == "snowflake":
        return ""
    proxied = sorted(name for name in map(str.lower, st.context.headers) if _is_of_a_proxy(name))
    bound_to = st.get_option("server.address") or "every address of this machine"
    asked_for = st.context.headers.get("Host") or ""
    if not is_loopback(bound_to):
        return (
            f"The screens listen on {bound_to} and no login is configured: anyone who reaches this machine would see "
            "the customers. Start them with `make app`, which listens on 127.0.0.1, or configure a login "
            "(docs/screens.md, Login)."
        )
    if asked_for and not is_loopback(asked_for):
        return (
            f"The screens were asked for as {asked_for}, and no login is configured: only http://localhost is served. "
            "Open them on the machine itself, or configure a login (docs/screens.md, Login)."
        )
    if proxied:
        return (
            f"The request came through a proxy (header {', '.join(proxied)}), and no login is configured: anyone who "
            "reaches the proxy would see the customers. Open http://localhost on the machine itself, or configure a "
            "login (docs/screens.md, Login)."
        )
    return ""


def _is_of_a_proxy(header: str) -> bool:
    return header in PROXY_HEADERS or header.startswith(FORWARDED)


def verified_address(claims: Mapping[str, object], unverified_addresses: bool) -> str:
    """Return the address of who has logged in; empty when the provider has not verified it: it may be anybody's.

    :param claims: what the provider says of who has logged in.
    :param unverified_addresses: an address is taken of which the provider does not say whether it is verified.
    """
    # Some providers write it as a text.
    verified = claims.get("email_verified", "true" if unverified_addresses else None)
    return str(claims.get("email") or "") if verified is True or verified == "true" else ""


def roles_of_reader() -> tuple[str, Mapping[str, Role]]:
    """Return who looks and the roles that they have, by name.

    Who has not logged in is asked to, and the page ends there.

    :raises RolesError: when the file of the roles cannot be used.
    """
    settings = load_settings()
    roles = load_roles(settings.screens_roles)
    if settings.warehouse == "snowflake":
        address = str(st.user.get("email") or st.user.get("user_name") or "")
        return address, roles.of(address)
    if not has_login():
        return getpass.getuser(), roles.roles
    if not st.user.is_logged_in:
        st.title("Customer 360")
        st.write("Log in to see the screens.")
        st.button("Log in", on_click=st.login, type="primary")
        st.stop()
    address = verified_address(st.user.to_dict(), settings.screens_unverified_addresses)
    return address, roles.of(address)


def _chosen_role(names: Sequence[str], roles: Mapping[str, Role]) -> str:
    """Return the role that is chosen in the sidebar.

    It is kept beside the widget: a role without the page that is open leads to another page, where the widget is new.
    """

    def keep() -> None:
        st.session_state[CHOSEN] = st.session_state[ROLE]

    before = st.session_state.get(CHOSEN)
    chosen: str = st.sidebar.selectbox(
        "Role",
        names,
        index=names.index(before) if before in names else 0,
        format_func=lambda each: roles[each].label,
        key=ROLE,
        on_change=keep,
    )
    return chosen


def current_reader() -> Reader:
    """Return who looks, in the role that they chose; the page ends with a message where they have none."""
    try:
        refused = why_refused()
    except login.LoginError as error:
        refused = str(error)
    if refused:
        st.error(refused)
        st.stop()
    try:
        name, roles = roles_of_reader()
    except RolesError as error:
        st.error(str(error))
        st.stop()
    logs_in = has_login()
    if not roles:
        st.error(
            f"{name or 'Your login'} has no role on these screens. Who runs them adds the address to a role in the "
            "file that SCREENS_ROLES names."
        )
        if logs_in:
            st.button("Log out", on_click=st.logout)
        st.stop()
    names = list(roles)
    chosen = names[0]
    if len(names) > 1:
        chosen = _chosen_role(names, roles)
    if logs_in:
        st.sidebar.caption(f"Logged in as {name}")
        st.sidebar.button("Log out", on_click=st.logout)
    return Reader(name=name, role_name=chosen, role=roles[chosen])
