"""Configuration files: `exchange.toml`, `gateway.toml` and profiles, read strictly.

A key that is not known fails, with the nearest names; so does a value of another type or out of its
range. Paths are relative to the file they stand in. Secrets stand in files of their own (`exchange.keyfiles`).
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args

import msgspec
import tomli_w
from msgspec import Meta, Struct

from contracts.errors import Reason, SluicegateError, Violation, nearest
from exchange import keyfiles

if TYPE_CHECKING:
    from connectors.keys import MasterKey

MAX_FILE = 1024 * 1024
_SQLITE = "sqlite:///"

# What a value may be; the description is what an error says.
Address = Annotated[str, Meta(pattern=r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$", description="host:port")]
Count = Annotated[int, Meta(ge=1, le=10_000)]
Seconds = Annotated[int, Meta(ge=1, le=86_400)]
Rate = Annotated[int, Meta(ge=1, le=10_000_000)]
Level = Literal["debug", "info", "warning", "error"]

_LOOPBACK = ("127.0.0.1:", "localhost:", "[::1]:")


class _Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of everything read from TOML."""


class PolicySettings(_Settings, frozen=True, kw_only=True):
    """Which engine decides: in process, or a real OPA server at `url`, with its authority's
    certificates in `ca` and its bearer token in `token_file`. `timeout` in seconds."""

    engine: Literal["embedded", "opa"] = "embedded"
    url: str = ""
    ca: Path | None = None
    token_file: Path | None = None
    timeout: Annotated[float, Meta(gt=0, le=60)] = 2.0
    unsafe_plaintext: bool = False

    def __post_init__(self) -> None:
        if (self.engine == "opa") != bool(self.url):
            raise ValueError('url and engine = "opa" go together')


class ExchangeSettings(_Settings, frozen=True, kw_only=True):
    """`exchange.toml`. Durations are seconds.

    `workers` calls run at once, beside `watchers` gateways that wait to hear of stopped agreements and
    are sent a `heartbeat`. `max_deadline` is the longest that a call may ask for; `calls_per_minute`
    is for one caller, of whom `refusals_per_minute` may be refused, and recorded, before it has to wait.
    `shutdown_grace` is what running calls are given to end. Agreements that were made under the
    standards and policy bundles with the digests `earlier_standards` and `earlier_policies` go on.
    """

    listen: Address = "127.0.0.1:7450"
    audience: str = "sluicegate-exchange"
    database: str = "sqlite:///exchange.db"
    tls_certificate: Path = Path("tls/cert.pem")
    tls_key: Path = Path("tls/key.pem")
    grant_key: Path = Path("keys/grant.jwk")
    checkpoint_key: Path = Path("keys/checkpoint.jwk")
    standard: str = "desensitisation/1"
    earlier_standards: tuple[str, ...] = ()
    policy: PolicySettings = PolicySettings()
    earlier_policies: tuple[str, ...] = ()
    workers: Count = 16
    watchers: Count = 64
    max_deadline: Seconds = 120
    heartbeat: Seconds = 2
    calls_per_minute: Rate = 60_000
    refusals_per_minute: Rate = 120
    shutdown_grace: Seconds = 5
    log_level: Level = "info"
    unsafe_plaintext: bool = False


class DatasetSettings(_Settings, frozen=True, kw_only=True):
    """Where a dataset's rows really are; the contract has no say in this.

    `path` is a file, a folder or a glob; nothing outside `root` is read. `columns` states types
    for CSV and NDJSON, which have none; what it leaves open follows from the contract's logical types.
    `separator` and `null_values` (cells that mean no value) are for CSV. `register` names another dataset
    that is bound here, of the population: then receipts state the journalist's risk, of whoever looks
    people of the release up in it.
    """

    path: Path
    format: Literal["parquet", "csv", "ndjson", "arrow"]
    root: Path | None = None
    columns: dict[str, str] = {}
    separator: Annotated[str, Meta(min_length=1, max_length=1)] = ","
    null_values: tuple[str, ...] = ()
    register: str | None = None


class TokenSettings(_Settings, frozen=True, kw_only=True):
    """Where the bearer token comes from: one of a private `file`, the output of a `command`, or
    (embedded default) the party's own built-in `issuer`, the `iss` of its tokens, and its `issuer_key`."""

    file: Path | None = None
    command: tuple[str, ...] = ()
    issuer: str = ""
    issuer_key: Path | None = None
    audience: str = "sluicegate-exchange"

    def __post_init__(self) -> None:
        if sum((self.file is not None, bool(self.command), self.issuer_key is not None)) > 1:
            raise ValueError("a token comes from one of file, command and issuer_key")
        if bool(self.issuer) != (self.issuer_key is not None):
            raise ValueError("issuer and issuer_key go together")


class GatewaySettings(_Settings, frozen=True, kw_only=True):
    """`gateway.toml`. Durations are seconds; sizes bytes.

    `gateway`, `party` and the token's `subject` say who it is; `exchange` where the exchange is, and
    `exchange_ca` whose certificate that has. `trust` pins whom it believes; `statements` holds the key
    statements of its own people. Releases are hashed with `content_hash`. After `max_silence` without
    word from the exchange it serves nothing; a reader that takes nothing for `stall_after` is cut off.
    Where `master_key_command` is set, its words are run at the start to print the master key (the client of a key
    management service), and there is no file `master_key`.
    Who has no certificate by an authority in `client_ca` does not get past the handshake of TLS, once that is set.
    It serves `slots` streams at once, `slots_per_party` to one consumer. While releases take `spool_limit`
    none is made. One in the making holds up to `memory_limit` bytes of masked rows in memory, more go to the
    spool. They are cut into parts of about `part_bytes`: a broken pull resumes by whole parts.
    """

    gateway: str
    party: str
    subject: str
    listen: Address = "127.0.0.1:7460"
    exchange: Address = "localhost:7450"
    exchange_ca: Path | None = None
    trust: Path = Path("../../trust.yaml")
    token: TokenSettings = TokenSettings()
    tls_certificate: Path = Path("tls/cert.pem")
    tls_key: Path = Path("tls/key.pem")
    client_ca: Path | None = None
    signing_key: Path = Path("keys/signing.jwk")
    master_key: Path = Path("keys/master.key")
    master_key_command: tuple[str, ...] = ()
    state: Path = Path("state.db")
    spool: Path = Path("spool")
    spool_limit: Annotated[int, Meta(ge=1)] = 200 << 30
    memory_limit: Annotated[int, Meta(ge=0)] = 320 << 20
    part_bytes: Annotated[int, Meta(ge=1 << 16)] = 32 << 20
    statements: Path = Path("statements")
    standard: str = "desensitisation/1"
    policy: PolicySettings = PolicySettings()
    content_hash: Literal["sha-256", "blake3"] = "blake3"
    max_silence: Seconds = 30
    stall_after: Seconds = 60
    slots: Count = 16
    slots_per_party: Count = 4
    log_level: Level = "info"
    datasets: dict[str, DatasetSettings] = {}
    unsafe_plaintext: bool = False

    def __post_init__(self) -> None:
        if self.client_ca is not None and self.unsafe_plaintext:
            raise ValueError("client_ca needs TLS, and unsafe_plaintext has none")
        for dataset, source in self.datasets.items():
            if source.register is not None and source.register not in self.datasets:
                raise ValueError(f"datasets.{dataset}.register names no dataset that is bound here")


class Profile(_Settings, frozen=True, kw_only=True):
    """One way to act: who, for which party, against which exchange, with which keys.

    `signing_key` is the personal key. Who approves for a department and also requests for it has a
    `requester_key` besides, because a key is certified for one use. Only the `holder_key` can pull.
    `gateway_certificate` and `gateway_key` (PEM) are for gateways that demand certificates of their clients.
    In `checkpoint` the last checkpoint of the ledger that was seen is kept. `timeout` is the deadline
    of a call in seconds.
    """

    party: str
    subject: str
    endpoint: Address
    ca: Path | None = None
    trust: Path | None = None
    token: TokenSettings = TokenSettings()
    signing_key: Path | None = None
    requester_key: Path | None = None
    holder_key: Path | None = None
    gateway_certificate: Path | None = None
    gateway_key: Path | None = None
    checkpoint: Path | None = None
    timeout: Seconds = 60
    unsafe_plaintext: bool = False

    def __post_init__(self) -> None:
        if (self.gateway_certificate is None) != (self.gateway_key is None):
            raise ValueError("gateway_certificate and gateway_key go together")


S = TypeVar("S", bound=_Settings)


def load(path: Path, kind: type[S]) -> S:
    """Read one TOML file as `kind`, paths made absolute. Raises CONFIG_INVALID with what is wrong."""
    value = _toml(path)
    unknown = _unknown_keys(value, kind)
    if unknown:
        raise SluicegateError(Reason.CONFIG_INVALID, f"{path} has settings that do not exist", unknown)
    try:
        settings = msgspec.convert(value, kind, strict=True, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise SluicegateError(Reason.CONFIG_INVALID, f"{path}: {_explained(str(error))}") from None
    absolute: S = _absolute(settings, path.resolve().parent)
    return absolute


def dump(settings: _Settings) -> str:
    """TOML of the settings, without what equals the default."""
    return tomli_w.dumps(differing(settings))


def create(path: Path, settings: _Settings) -> None:
    """Write the settings into a new file of a private folder, whole or not at all. Raises
    ALREADY_EXISTS, and CONFIG_INVALID for settings that could not be read back."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists():
        raise SluicegateError(Reason.ALREADY_EXISTS, f"{path} exists")
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        keyfiles.write_private_file(fresh, dump(settings).encode())
        load(fresh, type(settings))
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def differing(settings: _Settings) -> dict[str, Any]:
    """The settings that differ from the default, as TOML has them."""
    plain = _plain(settings)
    defaults = {info.name: _plain(info.default) for info in msgspec.structs.fields(type(settings))}
    return {name: item for name, item in plain.items() if item != defaults[name]}


def change(path: Path, kind: type[_Settings], edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit the values of a TOML file, whole or not at all. Raises CONFIG_INVALID, and leaves the file
    as it is, when it was or would become invalid. Comments are lost."""
    load(path, kind)
    value = _toml(path)
    edit(value)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        fresh.write_text(tomli_w.dumps(value))
        load(fresh, kind)
        fresh.replace(path)
    except OSError as error:
        raise SluicegateError(Reason.CONFIG_INVALID, f"cannot write {path}: {error.strerror}") from None
    finally:
        fresh.unlink(missing_ok=True)


def _toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except OSError as error:
        raise SluicegateError(
            Reason.CONFIG_INVALID, f"cannot read {path}: {error.strerror}; run sluicegate init, or name another home"
        ) from None
    if len(raw) > MAX_FILE:
        raise SluicegateError(Reason.CONFIG_INVALID, f"{path} is larger than {MAX_FILE} bytes")
    try:
        return tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SluicegateError(Reason.CONFIG_INVALID, f"{path} is not TOML: {error}") from None


def _plain(value: object) -> Any:
    """The value as TOML has it. TOML has no null: what is None or empty is left out."""
    if isinstance(value, Struct):
        plain = {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
        return {name: item for name, item in plain.items() if item not in (None, {}, [])}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _decode(kind: type, value: object) -> Any:
    if kind is Path and isinstance(value, str) and value and "\0" not in value:
        return Path(value)
    raise ValueError("Expected a path")


def _explained(text: str) -> str:
    """msgspec's words with the setting in front."""
    message, _, where = text.partition(" - at `$")
    if "matching regex" in message:
        message = "Expected host:port"
    name = where.removeprefix(".").removesuffix("`")
    return f"{name}: {message}" if name else message


def _absolute(value: Any, folder: Path) -> Any:
    """The settings with every path, and the path inside a SQLite address, made absolute."""
    if isinstance(value, Path):
        return value if value.is_absolute() else Path(os.path.normpath(folder / value))
    if isinstance(value, Struct):
        changes = {name: _absolute(getattr(value, name), folder) for name in value.__struct_fields__}
        return type(value)(**changes)
    if isinstance(value, dict):
        return {key: _absolute(item, folder) for key, item in value.items()}
    if isinstance(value, str) and value.startswith(_SQLITE) and not value.startswith(f"{_SQLITE}/"):
        return f"{_SQLITE}{os.path.normpath(folder / value.removeprefix(_SQLITE))}"
    return value


def _unknown_keys(value: Any, kind: Any, at: str = "") -> tuple[Violation, ...]:
    """Every key that is no setting, in tables and in tables of tables."""
    inner = [part for part in (kind, *get_args(kind)) if isinstance(part, type) and issubclass(part, _Settings)]
    if not isinstance(value, dict) or not inner:
        return ()
    if kind is not inner[0]:  # a table whose keys are names
        return tuple(found for key, item in value.items() for found in _unknown_keys(item, inner[0], f"{at}{key}."))
    known = {info.name: info.type for info in msgspec.structs.fields(kind)}
    found: list[Violation] = []
    for key, item in value.items():
        if key in known:
            found += _unknown_keys(item, known[key], f"{at}{key}.")
        else:
            found.append(Violation(f"{at}{key}"[:200], "no such setting", nearest(key, known), code="unknown"))
    return tuple(found)


def loopback(address: str) -> bool:
    """Whether a host:port is of this machine alone: the only place for plaintext."""
    return address.startswith(_LOOPBACK)


def read_master(settings: GatewaySettings) -> MasterKey:
    """A gateway's master key: printed by its command where one is set, else from its file. Raises
    CONFIG_UNSAFE for a file that lies open, CONFIG_INVALID for no key."""
    from connectors.keys import MasterKey

    return (
        MasterKey.ask(settings.master_key_command)
        if settings.master_key_command
        else MasterKey.load(settings.master_key)
    )
