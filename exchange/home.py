"""The home folder of an installation: where configuration, keys and profiles lie.

    home/
      trust.yaml  ca.pem                  what clients pin
      exchange/   exchange.toml, exchange.db, keys/, tls/
      gateways/<gateway>/   gateway.toml, state.db, spool/, keys/, tls/
      parties/<party>/      root.jwk, issuer.jwk: of the parties that were founded here
      profiles/   <name>.toml, keys/, current

`exchange.founding` makes one for the embedded default: everything on one machine, every party with its
own root key, token issuer and people. In production each party keeps its own home, with its own keys only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from contracts.errors import Reason, SluicegateError, nearest
from contracts.trust import PartyKind
from exchange import config, keyfiles
from exchange.config import Profile

ENVIRONMENT = "SLUICEGATE_HOME"
PROFILE_ENVIRONMENT = "SLUICEGATE_PROFILE"
_PROFILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Home:
    """A home folder. Nothing is created by looking at one."""

    root: Path

    @classmethod
    def find(cls, root: Path | None = None) -> Home:
        """The given folder, else `$SLUICEGATE_HOME`, else `~/.sluicegate`."""
        chosen = root or Path(os.environ.get(ENVIRONMENT) or Path.home() / ".sluicegate")
        return cls(chosen.expanduser().absolute())

    @property
    def exchange(self) -> Path:
        """`exchange.toml` of this home."""
        return self.root / "exchange" / "exchange.toml"

    @property
    def trust(self) -> Path:
        """The trust file."""
        return self.root / "trust.yaml"

    def gateways(self) -> tuple[Path, ...]:
        """Every `gateway.toml` of this home."""
        return tuple(sorted(self.root.glob("gateways/*/gateway.toml")))

    def gateway(self, name: str) -> Path:
        """`gateway.toml` of one gateway."""
        return self.root / "gateways" / name / "gateway.toml"

    def served_by(self, name: str | None) -> Path:
        """`gateway.toml` of that gateway, or of the only one there is. Raises CONFIG_INVALID naming those
        there are."""
        names = {path.parent.name: path for path in self.gateways()}
        if name is None and len(names) == 1:
            return next(iter(names.values()))
        if name not in names:
            known = ", ".join(names) or "none"
            wrong = "say which gateway: --gateway NAME" if name is None else f"there is no gateway {name[:80]!r} here"
            raise SluicegateError(Reason.CONFIG_INVALID, f"{wrong}; {self.root} has {known}")
        return names[name]

    def party(self, party: str) -> Path:
        """Folder with the root and issuer key of a party founded here."""
        return self.root / "parties" / party

    def profiles(self) -> tuple[str, ...]:
        """Names of the profiles."""
        return tuple(sorted(path.stem for path in self.root.glob("profiles/*.toml")))

    def current(self) -> str | None:
        """The chosen profile: `$SLUICEGATE_PROFILE`, else what `use` chose, else the only one."""
        named = os.environ.get(PROFILE_ENVIRONMENT)
        if named:
            return named
        marker = self.root / "profiles" / "current"
        if marker.is_file():
            return marker.read_bytes()[:200].decode(errors="replace").strip()
        names = self.profiles()
        return names[0] if len(names) == 1 else None

    def use(self, name: str) -> None:
        """Make a profile the current one."""
        self.profile(name)
        keyfiles.write_private_file(self.root / "profiles" / "current", name.encode() + b"\n")

    def profile(self, name: str | None = None) -> Profile:
        """The profile of that name, or the current one. Raises CONFIG_INVALID naming those there are."""
        names = self.profiles()
        chosen = name or self.current()
        if chosen is None:
            told = f"say who you are: --as NAME, one of {', '.join(names)}; or choose one with sluicegate profile use"
            nobody = f"{self.root} has no profiles: run sluicegate init, or name your home with --home"
            raise SluicegateError(Reason.CONFIG_INVALID, told if names else nobody, metadata={"home": str(self.root)})
        if chosen not in names:
            raise SluicegateError(
                Reason.CONFIG_INVALID,
                f"there is no profile {chosen[:80]!r} in {self.root}; {nearest(chosen, names) or 'see profile list'}",
            )
        return config.load(self.profile_file(chosen), Profile)

    def profile_file(self, name: str) -> Path:
        """The file of a profile."""
        return self.root / "profiles" / f"{name}.toml"

    def new_profile_file(self, name: str) -> Path:
        """The file of a profile that is not there yet. Raises INVALID_ARGUMENT for what is no name,
        ALREADY_EXISTS."""
        if not _PROFILE.fullmatch(name):
            raise SluicegateError(
                Reason.INVALID_ARGUMENT,
                "a profile's name has 1 to 64 letters, digits and . _ -, no dot or hyphen first",
            )
        if self.profile_file(name).exists():
            raise SluicegateError(Reason.ALREADY_EXISTS, f"there is a profile {name} in {self.root} already")
        return self.profile_file(name)


@dataclass(frozen=True)
class Founder:
    """A party to found in a home: its people with their roles, and the gateway of a department."""

    party: str
    kind: PartyKind
    people: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    gateway: str | None = None
    display_name: str = ""


EXAMPLE_CITY = (
    Founder(
        "city-data-office",
        PartyKind.COORDINATION,
        {"admin@cdo.example": ("admin", "mediator"), "auditor@cdo.example": ("auditor",)},
        display_name="City data office",
    ),
    Founder(
        "health-bureau",
        PartyKind.DEPARTMENT,
        {"steward@health.example": ("steward",), "dpo@health.example": ("dpo", "admin")},
        gateway="health-bureau-1",
        display_name="Health bureau",
    ),
    Founder(
        "disease-control-centre",
        PartyKind.DEPARTMENT,
        {"analyst@dcc.example": ("requester", "admin")},
        display_name="Disease control centre",
    ),
    Founder(
        "metro-lines",
        PartyKind.COMPANY,
        {"planner@metro.example": ("requester", "admin")},
        display_name="Metro Lines",
    ),
)
