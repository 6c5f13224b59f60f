"""What every command gets from the front of the line: the home folder and who is acting."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from exchange.client import Exchange
    from exchange.config import Profile
    from exchange.home import Home


@dataclass(frozen=True)
class State:
    """Chosen home folder and profile name; None stands for the default."""

    root: Path | None
    name: str | None

    def home(self) -> Home:
        """The home folder."""
        from exchange.home import Home

        return Home.find(self.root)

    def profile(self) -> Profile:
        """Who is acting."""
        return self.home().profile(self.name)

    def connect(self) -> Exchange:
        """A connection as that profile."""
        from exchange.client import Exchange

        return Exchange(self.profile())


def state(context: typer.Context) -> State:
    """The state of a running command."""
    found = context.obj
    return found if isinstance(found, State) else State(None, None)


def profile_names(context: typer.Context, incomplete: str) -> list[str]:
    """Profiles whose name begins like this, for the shell to complete; of the home that the line names, else
    of the default one."""
    from os import environ

    at: Any = context
    named = None
    while at is not None and named is None:
        named, at = at.params.get("home"), at.parent
    root = Path(named or environ.get("SLUICEGATE_HOME") or Path.home() / ".sluicegate").expanduser()
    return sorted(path.stem for path in root.glob("profiles/*.toml") if path.stem.startswith(incomplete))
