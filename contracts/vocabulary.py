"""The words for purposes and legal bases: terms of the W3C Data Privacy Vocabulary (DPV) 2.3.

Written `prefix:Term`: `dpv:` for the core, `sector-health:` and `sector-publicservices:` for the two
extensions that ship. A term stands for everything below it too: who forbids `dpv:Marketing` forbids
`dpv:TargetedAdvertising`.

>>> purpose("dpv:Advertising").label
'Advertising'
>>> within("dpv:TargetedAdvertising", "dpv:Marketing")
True
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

from msgspec import Struct

from contracts import yaml12

ROOT_PURPOSE = "dpv:Purpose"
ROOT_LEGAL_BASIS = "dpv:LegalBasis"

_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z]|s?$)|[A-Z][a-z]+|[A-Z]+s?|[a-z]+|[0-9]+")


class Term(Struct, frozen=True):
    """One term. `broader` are its direct parents, `ancestors` all terms above it, never itself."""

    id: str
    label: str
    description: str
    broader: tuple[str, ...]
    ancestors: frozenset[str]


def purpose(term: str) -> Term | None:
    """The purpose of that id, or None when DPV has none."""
    return purposes().get(term)


def legal_basis(term: str) -> Term | None:
    """The legal basis of that id, or None when DPV has none."""
    return legal_bases().get(term)


def purposes() -> Mapping[str, Term]:
    """Every purpose that ships, by id."""
    return _terms("purposes")


def legal_bases() -> Mapping[str, Term]:
    """Every legal basis that ships, by id."""
    return _terms("legalBases")


def within(term: str, other: str) -> bool:
    """Whether a purpose is another one or a kind of it. An unknown purpose is within nothing but itself."""
    found = purpose(term)
    return term == other or (found is not None and other in found.ancestors)


def version() -> str:
    """The version of DPV that ships."""
    return str(_document()["version"])


@cache
def _document() -> Mapping[str, yaml12.Json]:
    raw = resources.files("contracts").joinpath("standards", "dpv-2.3.yaml").read_bytes()
    document: Mapping[str, yaml12.Json] = yaml12.load(raw, name="dpv-2.3.yaml").value
    return document


@cache
def _terms(part: str) -> Mapping[str, Term]:
    listed: Mapping[str, Mapping[str, yaml12.Json]] = _document()[part]
    return MappingProxyType({id: _term(id, listed) for id in listed})


def _term(id: str, listed: Mapping[str, Mapping[str, yaml12.Json]]) -> Term:
    broader = tuple(listed[id]["broader"])
    kinds = ", ".join(f"'{_label(word)}'" for word in broader)
    described = listed[id].get("description") or f"A kind of {kinds}"
    return Term(id, _label(id), described, broader, _ancestors(id, listed))


def _ancestors(id: str, listed: Mapping[str, Mapping[str, yaml12.Json]]) -> frozenset[str]:
    """Everything above a term, by every way up: a term may have several broader ones. A broader term
    that the shipped modules do not define still counts as one."""
    found: set[str] = set()
    waiting = list(listed[id]["broader"])
    while waiting:
        term = waiting.pop()
        if term not in found:
            found.add(term)
            waiting += listed.get(term, {}).get("broader", ())
    return frozenset(found)


def _label(id: str) -> str:
    """The id in plain words: `sector-health:PublicHealthSurveillance` is 'Public health surveillance'."""
    words = _WORDS.findall(id.partition(":")[2])
    plain = [word if word.isupper() and len(word) > 1 else word.lower() for word in words]
    return " ".join([plain[0][:1].upper() + plain[0][1:], *plain[1:]])
