"""The shipped DPV terms are those of DPV 2.3, with its hierarchy."""

from __future__ import annotations

import csv

import pytest

from contracts import vocabulary
from tests.documents import CORPORA

PREFIXES = {
    "https://w3id.org/dpv#": "dpv:",
    "https://w3id.org/dpv/sector/health#": "sector-health:",
    "https://w3id.org/dpv/sector/publicservices#": "sector-publicservices:",
}


def prefixed(iri: str) -> str:
    base, _, term = iri.rpartition("#")
    return PREFIXES[base + "#"] + term


def published(root: str, *files: str) -> dict[str, set[str]]:
    """Every term of a kind with its direct broader terms, from DPV's own files."""
    found = {}
    for name in files:
        with (CORPORA / "dpv" / f"{name}.csv").open(encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                if row["type"] == "class" and (row["dpvtype"].endswith("#" + root) or row["term"] == root):
                    broader = {prefixed(iri) for iri in row["hasbroader"].split(";") if iri}
                    found[prefixed(row["iri"])] = broader
    return found


@pytest.mark.skipif(not (CORPORA / "dpv").is_dir(), reason="corpora absent")
def test_purposes_and_legal_bases_are_exactly_those_of_dpv() -> None:
    modules = [f"{prefix}-modules-purposes" for prefix in ("dpv", "sector-health", "sector-publicservices")]
    purposes = published("Purpose", *modules)
    assert {id: set(term.broader) for id, term in vocabulary.purposes().items()} == purposes
    bases = published("LegalBasis", "dpv-modules-legal_basis")
    assert {id: set(term.broader) for id, term in vocabulary.legal_bases().items()} == bases
    assert (len(purposes), len(bases)) == (228, 16)


def test_ancestors_are_everything_above() -> None:
    for terms in (vocabulary.purposes(), vocabulary.legal_bases()):
        for term in terms.values():
            assert set(term.broader) <= term.ancestors
            assert term.id not in term.ancestors
            for parent in term.broader:
                if parent in terms:
                    assert terms[parent].ancestors <= term.ancestors
    # DPV hangs the fulfilment of rights under a legal basis, and a root is not above itself.
    rootless = {id for id, term in vocabulary.purposes().items() if "dpv:Purpose" not in term.ancestors}
    assert rootless == {"dpv:Purpose", "dpv:RightsFulfilment"}


@pytest.mark.parametrize(
    ("term", "other", "expected"),
    [
        ("dpv:Marketing", "dpv:Marketing", True),
        ("dpv:TargetedAdvertising", "dpv:Marketing", True),
        ("dpv:Marketing", "dpv:TargetedAdvertising", False),
        ("sector-health:FraudPreventionDetection", "dpv:FraudPreventionAndDetection", True),
        ("sector-health:PublicHealthSurveillance", "dpv:Marketing", False),
        ("dpv:Unknown", "dpv:Purpose", False),
        ("dpv:Unknown", "dpv:Unknown", True),
    ],
)
def test_within_follows_the_hierarchy_downwards(term: str, other: str, expected: bool) -> None:
    assert vocabulary.within(term, other) is expected


def test_unknown_terms_are_none() -> None:
    assert vocabulary.purpose("dpv:Marketting") is None
    assert vocabulary.purpose("Marketing") is None
    assert vocabulary.purpose("dpv:LegalBasis") is None
    assert vocabulary.legal_basis("dpv:Marketing") is None
    assert vocabulary.version() == "2.3"


def test_every_term_has_words() -> None:
    for terms in (vocabulary.purposes(), vocabulary.legal_bases()):
        for term in terms.values():
            assert term.label[0].isupper()
            assert ":" not in term.label
            assert term.label.replace(" ", "").casefold() == term.id.partition(":")[2].casefold()
            assert term.description
    assert vocabulary.purposes()["dpv:ProtectionOfIPR"].label == "Protection of IPR"
    with pytest.raises(TypeError):
        vocabulary.purposes()["dpv:New"] = vocabulary.purposes()["dpv:Marketing"]  # type: ignore[index]
