"""Start the screens: `make app`. Without a login they listen on this machine's own address only."""

from __future__ import annotations

import os
import sys

from app.login import LoginError, has_login
from include.customer_360.settings import PROJECT_ROOT, Settings, SettingsError, load_settings

APP = PROJECT_ROOT / "app"


class ServeError(RuntimeError):
    """The screens cannot be started so; the message says what to change."""


def command(settings: Settings) -> list[str]:
    """Return the command that serves the screens.

    :raises ServeError: when other machines would reach them and no login is configured.
    :raises LoginError: when the file of the login cannot be used.
    """
    from app.reader import is_loopback

    # Read in any case: a broken file is found now, not by the first reader.
    login = has_login([settings.screens_secrets], wanted=settings.asks_for_login)
    if not login and not is_loopback(settings.screens_address):
        raise ServeError(
            f"SCREENS_ADDRESS={settings.screens_address} lets other machines reach the screens, and no login is "
            "configured: anyone would see the customers. Take 127.0.0.1, or configure a login (docs/screens.md, Login)."
        )
    if settings.warehouse == "snowflake":
        raise ServeError(
            "WAREHOUSE=snowflake: the marts are in Snowflake, and there the screens run too, with the rights of who "
            "looks. docs/snowflake.md, The screens in Snowflake, has the command."
        )
    if not settings.published_file.exists():
        raise ServeError(
            f"There is no published copy {settings.published_file} yet: `make refresh` builds and publishes the marts."
        )
    return [
        *(sys.executable, "-m", "streamlit", "run", str(APP / "main.py")),
        *("--server.address", settings.screens_address),
        *("--server.port", str(settings.screens_port)),
        *("--secrets.files", str(settings.screens_secrets)),
    ]


def main() -> None:
    """Serve them until they are interrupted."""
    try:
        settings = load_settings()
        serve = command(settings)
    except (SettingsError, ServeError, LoginError) as error:
        sys.exit(str(error))
    shown = "localhost" if settings.screens_address == "127.0.0.1" else settings.screens_address
    print(f"The screens: http://{shown}:{settings.screens_port} (Ctrl-C ends them)", flush=True)
    os.chdir(APP)
    os.execv(serve[0], serve)


if __name__ == "__main__":
    main()
