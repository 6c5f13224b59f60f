"""What a contract may not publish: sample values of private fields, and names of internal hosts.

Published bytes are public to every party that may see the contract, and a signature makes them
permanent. `exposed` finds what has no place there, `strip` writes a copy without it.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from contracts import yaml12
from contracts.errors import Reason, SluicegateError
from contracts.model import Tier
from contracts.yaml12 import Json, Path

# Names under these suffixes are resolved inside one network only (RFC 6761, 6762, 8375; ICANN's
# reservation of `internal`; the usual habits).
_INTERNAL_SUFFIXES: Final = (
    "corp", "home", "home.arpa", "internal", "intern", "intra", "intranet", "lan", "local", "localdomain",
    "localhost", "priv", "private", "svc", "test",
)  # fmt: skip
# Keys of ODCS servers whose value is a host or a list of hosts, with or without port.
_HOST_KEYS: Final = frozenset({"host", "hostname", "endpoint", "endpointUrl", "bootstrapServers", "address"})
_NOT_HOST_SCHEMES: Final = frozenset({"s3", "s3a", "gs", "file", "abfs", "abfss", "wasbs", "adl", "hdfs", "arn", "az"})
_URL = re.compile(r"[a-z][a-z0-9+.:-]*://[^\s'\"]+", re.IGNORECASE)
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
_PLACEHOLDER = re.compile(r"\$\{[^}]*\}|\{\{[^}]*\}\}")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?", re.IGNORECASE)


def exposed(document: Json) -> Iterator[tuple[Path, str, str]]:
    """Every part that may not be published: its path, what is wrong, what to do."""
    hint = "remove it, or publish with --strip"
    for path, tier in _examples(document):
        yield path, f"sample values of a field classified {tier or 'not at all'}; allowed on open fields only", hint
    for path, host in _internal_hosts(document):
        yield path, f"names the internal host {host[:80]!r}; a contract is read by others", hint


def strip(raw: bytes, *, name: str = "contract") -> bytes:
    """The contract without samples of private fields and without servers that name internal hosts.

    Everything else keeps its value; comments and layout are lost, because a comment may say what the
    values may not. Raises what `yaml12.load` raises.
    """
    document = yaml12.load(raw, name=name).value
    doomed = [path for path, _ in _examples(document)]
    doomed += {path[:2] for path, _ in _internal_hosts(document)}
    # Highest index first, so that removing one item of a list does not move the next.
    for path in sorted(doomed, key=lambda path: [(isinstance(word, int), word) for word in path], reverse=True):
        document = _without(document, path)
    written = _dump(document)
    if yaml12.load(written, name=name).value != document:
        raise SluicegateError(Reason.INTERNAL, f"{name}: the stripped copy does not read back as it was meant")
    return written


def inline(value: Json) -> str:
    """A value as YAML on one line, as it stands within other text."""
    plain = json.dumps(value, ensure_ascii=False).isprintable()  # some other breaks of lines would pass as letters
    written: str = yaml.dump(value, Dumper=_Dumper, allow_unicode=plain, default_flow_style=True, width=2**31)
    return written.removesuffix("\n").removesuffix("\n...")


def _examples(document: Json) -> Iterator[tuple[Path, str]]:
    """`examples` of every schema property, at any depth, that is not classified open."""
    schema = document.get("schema") if isinstance(document, dict) else None
    for index, item in enumerate(schema if isinstance(schema, list) else ()):
        yield from _examples_below(item, ("schema", index))


def _examples_below(item: Json, path: Path) -> Iterator[tuple[Path, str]]:
    if not isinstance(item, dict):
        return
    if "examples" in item and item.get("classification") != Tier.OPEN:
        yield (*path, "examples"), str(item.get("classification") or "")
    properties = item.get("properties")
    for index, child in enumerate(properties if isinstance(properties, list) else ()):
        yield from _examples_below(child, (*path, "properties", index))
    for key in ("items", "keys", "values"):
        yield from _examples_below(item.get(key), (*path, key))


def _internal_hosts(document: Json) -> Iterator[tuple[Path, str]]:
    servers = document.get("servers") if isinstance(document, dict) else None
    for index, server in enumerate(servers if isinstance(servers, list) else ()):
        for path, key, text in _texts(server, ("servers", index), ""):
            host = next((host for host in _hosts(key, text) if not is_public(host)), None)
            if host is not None:
                yield path, host


def _texts(value: Json, path: Path, key: str) -> Iterator[tuple[Path, str, str]]:
    if isinstance(value, str):
        yield path, key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, (*path, name), name)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index), key)


def _hosts(key: str, text: str) -> Iterator[str]:
    """Hosts that a value of a server names: all of a host key, those of URLs, bare addresses."""
    text = _PLACEHOLDER.sub("", text)
    urls = _URL.findall(text)
    for url in urls:
        scheme, _, rest = url.partition("://")
        if scheme.lower().rpartition(":")[2] not in _NOT_HOST_SCHEMES:
            yield from (
                host for part in rest.split("/", 1)[0].rpartition("@")[2].split(",") if (host := _host_of(part))
            )
    if key in _HOST_KEYS and not urls:
        yield from (host for part in re.split(r"[\s,;]+", text) if (host := _host_of(part)))
    yield from _IPV4.findall(text)
    for word in re.split(r"[\s,;/@]+", text):
        host = _host_of(word)
        if "." in host and host.lower().endswith(tuple("." + suffix for suffix in _INTERNAL_SUFFIXES)):
            yield host


def _host_of(part: str) -> str:
    """The host in `host:port`, `[v6]:port` or a bare host; empty when there is none."""
    try:
        return urlsplit(f"//{part}").hostname or ""
    except ValueError:
        return part


def is_public(host: str) -> bool:
    """Whether a host can be meant for others: a global address, or a name with a public suffix.

    >>> is_public("data.health.example"), is_public("db01"), is_public("10.0.0.7"), is_public("kafka.lan")
    (True, False, False, False)
    """
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_global
    except ValueError:
        name = host.lower().rstrip(".")
    labels = name.split(".")
    if len(labels) < 2 or not all(_LABEL.fullmatch(label) for label in labels):
        return False
    return not any(name.endswith("." + suffix) for suffix in _INTERNAL_SUFFIXES)


def _without(value: Any, path: Path) -> Any:
    """A copy of a value without the part at that path."""
    key, rest = path[0], path[1:]
    if isinstance(value, dict):
        kept = {name: _without(item, rest) if name == key and rest else item for name, item in value.items()}
        if not rest:
            kept.pop(str(key), None)
        return kept
    if rest:
        return [_without(item, rest) if index == key else item for index, item in enumerate(value)]
    return [item for index, item in enumerate(value) if index != key]


class _Dumper(yaml.SafeDumper):
    """Writes values so that a reader of YAML 1.1 and one of YAML 1.2 see the same."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


# PyYAML quotes what YAML 1.1 would not take for a string; these are what only 1.2 would not.
_Dumper.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"0o[0-7]+$"), ["0"])
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


def _dump(document: Json) -> bytes:
    return yaml.dump(
        document,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=100,
        default_flow_style=False,
        encoding="utf-8",
    )
