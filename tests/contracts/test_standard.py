"""The shipped standard, its floors, and that it cannot contradict itself."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import standard, yaml12
from contracts.canonical import digest
from contracts.errors import Reason, SluicegateError
from contracts.model import Field, Identifiability, SharingModel, Tier
from contracts.techniques import ALL, parse
from tests.documents import ROOT

STANDARD = standard.load()
FILE = ROOT / "contracts" / "standards" / "desensitisation-1.yaml"

# One example of every technique, sent or not.
MASKS: dict[str, dict[str, Any]] = {
    "keep": {"justification": "needed for the purpose"},
    "drop": {},
    "null": {},
    "constant": {"value": "x"},
    "partial": {"keep_first": 3},
    "hmac": {"domain": "person"},
    "bucket": {"size": 10},
    "clip": {"upper": 90},
    "round": {"base": 1000},
    "truncate": {"unit": "week"},
    "date_part": {"part": "month"},
    "prefix": {"length": 2},
    "hierarchy": {"table": {"a": ["b"]}},
    "geo_round": {"decimals": 1},
    "rare": {"min_count": 20},
    "random_id": {},
    "redact": {},
    "regex": {"pattern": "^[^@]+", "replacement": "***"},
    "ip_prefix": {},
    "geohash": {"precision": 5, "longitude": "lon"},
    "shift_date": {"days": 30, "entity": "person"},
    "noise": {"distribution": "laplace", "scale": 2000},
    "shuffle": {},
    "microaggregate": {"k": 5},
    "aes_siv": {"domain": "person", "legal_basis": "dpv:LegalObligation"},
    "ff1": {"domain": "card", "legal_basis": "dpv:LegalObligation", "unsafe_format_preserving": True},
}


def mask(id: str, **changed: object) -> Any:
    return parse({"mask": id, **MASKS[id], **changed})


def field(tier: Tier, part: Identifiability, category: str | None = None) -> Field:
    return Field(name="f", logical_type="string", classification=tier, identifiability=part, category=category)


def floors(found: Field, technique: Any, l_bound: int | None = None) -> list[str]:
    return [breach.floor for breach in STANDARD.breaches(found, technique, l_bound=l_bound)]


def test_every_technique_is_tried_here() -> None:
    assert MASKS.keys() == ALL.keys()


def test_what_the_standard_says() -> None:
    assert STANDARD.id == "desensitisation/1"
    assert {tier: STANDARD.approvals_needed(tier) for tier in Tier} == {
        Tier.OPEN: 0, Tier.INTERNAL: 1, Tier.SEMI_PRIVATE: 1, Tier.HIGHLY_PRIVATE: 2, Tier.PROHIBITED: 2,
    }  # fmt: skip
    assert [STANDARD.least_k(model) for model in SharingModel] == [20, 5, 3]
    assert STANDARD.tau(SharingModel.PUBLIC) == pytest.approx(1 / 20)
    assert STANDARD.risk == 0.05
    assert STANDARD.digest == digest(yaml12.load(FILE.read_bytes()).value)


def test_a_published_standard_is_never_edited() -> None:
    """Trust files and receipts hold this digest: a change is a new file with a new number."""
    assert STANDARD.digest == "sha256:08518cd6e44a7e6c8769dd26edef9aadf93d7dbd90a52773c4823963c0a4bcec"


@pytest.mark.parametrize("id", ALL)
def test_prohibited_data_is_only_dropped(id: str) -> None:
    for part in Identifiability:
        assert (floors(field(Tier.PROHIBITED, part), mask(id), 9) == []) is (id == "drop")


@pytest.mark.parametrize("tier", Tier)
def test_a_direct_identifier_is_never_kept(tier: Tier) -> None:
    assert floors(field(tier, Identifiability.DIRECT), mask("keep"))
    for weak in ("rare", "shift_date", "noise", "shuffle"):
        assert floors(field(tier, Identifiability.DIRECT), mask(weak))
    assert not floors(field(tier, Identifiability.DIRECT), mask("drop"))


@pytest.mark.parametrize("id", ALL)
def test_a_highly_private_identifier_is_dropped_or_pseudonymous(id: str) -> None:
    allowed = {"drop", "null", "constant", "hmac", "random_id"}
    assert (not floors(field(Tier.HIGHLY_PRIVATE, Identifiability.DIRECT), mask(id))) is (id in allowed)


@pytest.mark.parametrize("id", ALL)
def test_free_text_does_not_leave(id: str) -> None:
    allowed = {"drop", "null", "constant"}
    text = field(Tier.SEMI_PRIVATE, Identifiability.NONE, "free-text")
    assert (not floors(text, mask(id))) is (id in allowed)


def test_keep_needs_a_reason_where_the_standard_demands_a_mask() -> None:
    quasi = field(Tier.SEMI_PRIVATE, Identifiability.QUASI)
    assert floors(quasi, parse({"mask": "keep"})) == ["semi-private"]
    assert not floors(quasi, mask("keep"))
    for tier in (Tier.OPEN, Tier.INTERNAL):
        assert not floors(field(tier, Identifiability.QUASI), parse({"mask": "keep"}))


def test_a_highly_private_sensitive_value_stays_only_under_an_l_bound() -> None:
    health = field(Tier.HIGHLY_PRIVATE, Identifiability.SENSITIVE, "medical-code")
    for l_bound in (None, 1):
        assert floors(health, mask("prefix"), l_bound) == ["highly-private-sensitive"]
    assert not floors(health, mask("prefix"), 2)
    assert not floors(health, mask("keep"), 2)
    assert floors(health, parse({"mask": "keep"}), 2)
    assert not floors(health, mask("null"))


def test_highly_private_attributes_are_coarsened() -> None:
    for part in (Identifiability.QUASI, Identifiability.INDIRECT, Identifiability.NONE):
        assert floors(field(Tier.HIGHLY_PRIVATE, part), mask("keep"))
        assert floors(field(Tier.HIGHLY_PRIVATE, part), mask("rare"))
        assert not floors(field(Tier.HIGHLY_PRIVATE, part), mask("prefix"))


@given(
    st.sampled_from(Tier),
    st.sampled_from(Identifiability),
    st.sampled_from(sorted(MASKS)),
    st.none() | st.integers(1, 5),
)
def test_a_higher_tier_never_allows_more(tier: Tier, part: Identifiability, id: str, l_bound: int | None) -> None:
    """What a floor lets through at a tier, every lower tier lets through too."""
    if not floors(field(tier, part), mask(id), l_bound):
        for lower in list(Tier)[: tier.rank]:
            assert not floors(field(lower, part), mask(id), l_bound)


@given(st.sampled_from(Tier), st.sampled_from(Identifiability), st.sampled_from(sorted(STANDARD.categories)))
def test_dropping_is_always_allowed(tier: Tier, part: Identifiability, category: str) -> None:
    assert not floors(field(tier, part, category), mask("drop"))


# --- candidates -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("category", "first", "last", "expected"),
    [
        ("national-id", 6, 4, 36500 / 11),  # region and serial shown: a birth date, checked by the check digit
        ("national-id", 0, 0, 3000 * 36500 * 1000),
        ("phone", 3, 4, 10**4),
        ("phone", 3, 0, 10**8),
        ("phone", 7, 3, 10.0),
        ("phone", 20, 20, 1),
        ("email", 3, 3, math.inf),
    ],
)
def test_candidates_that_a_partial_mask_leaves(category: str, first: int, last: int, expected: float) -> None:
    assert STANDARD.categories[category].candidates(first, last) == pytest.approx(expected)


def test_a_mask_that_leaves_too_few_candidates() -> None:
    phone = field(Tier.SEMI_PRIVATE, Identifiability.DIRECT, "phone")
    assert not floors(phone, mask("partial", keep_first=3, keep_last=4))
    assert floors(phone, mask("partial", keep_first=4, keep_last=4, min_masked=1)) == ["candidates"]
    assert floors(phone, mask("prefix", length=9)) == ["candidates"]
    assert not floors(phone, mask("prefix", length=7))
    # Too short to hide as much as asked: hidden whole.
    assert not floors(phone, mask("partial", keep_first=5, keep_last=5, min_masked=4))
    id_ = field(Tier.SEMI_PRIVATE, Identifiability.DIRECT, "national-id")
    assert floors(id_, mask("partial", keep_first=6, keep_last=4)) == ["candidates"]


def test_what_a_pattern_leaves_of_a_fixed_shape_cannot_be_counted() -> None:
    for category in ("phone", "plate"):
        assert floors(field(Tier.SEMI_PRIVATE, Identifiability.DIRECT, category), mask("regex")) == ["candidates"]
    assert not floors(field(Tier.SEMI_PRIVATE, Identifiability.DIRECT, "email"), mask("regex"))


@given(st.integers(0, 32), st.integers(0, 32), st.sampled_from(sorted(STANDARD.categories)))
def test_showing_more_never_leaves_more_candidates(first: int, last: int, category: str) -> None:
    shape = STANDARD.categories[category]
    assert shape.candidates(first + 1, last) <= shape.candidates(first, last) * (1 + 1e-9)
    assert shape.candidates(first, last + 1) <= shape.candidates(first, last) * (1 + 1e-9)
    assert shape.candidates(first, last) >= 1


# --- amounts and remnants ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("technique", "fine"),
    [
        (mask("keep"), True),
        (mask("round", base=999), True),
        (mask("round", base=1000), False),
        (mask("bucket", size=500), True),
        (mask("bucket", size=5000), False),
        (mask("clip"), True),
        (mask("noise"), True),
        (mask("noise", base=999), True),
        (mask("noise", base=1000), False),
        (mask("null"), False),
        (mask("drop"), False),
    ],
)
def test_amounts_finer_than_the_rounding(technique: Any, fine: bool) -> None:
    amount = field(Tier.SEMI_PRIVATE, Identifiability.SENSITIVE, "amount")
    assert STANDARD.fine_amount(amount, technique) is fine
    assert STANDARD.counts_as_quasi(amount, technique) is fine
    assert not STANDARD.fine_amount(field(Tier.INTERNAL, Identifiability.NONE, "amount"), technique)


@pytest.mark.parametrize(
    ("tier", "part", "id", "counts"),
    [
        (Tier.INTERNAL, Identifiability.QUASI, "keep", True),
        (Tier.INTERNAL, Identifiability.QUASI, "prefix", True),
        (Tier.INTERNAL, Identifiability.QUASI, "null", False),
        (Tier.SEMI_PRIVATE, Identifiability.DIRECT, "partial", True),
        (Tier.SEMI_PRIVATE, Identifiability.DIRECT, "hmac", False),
        (Tier.SEMI_PRIVATE, Identifiability.INDIRECT, "prefix", True),
        (Tier.SEMI_PRIVATE, Identifiability.SENSITIVE, "prefix", False),
        (Tier.SEMI_PRIVATE, Identifiability.NONE, "prefix", False),
        (Tier.INTERNAL, Identifiability.INDIRECT, "keep", False),
        (Tier.SEMI_PRIVATE, Identifiability.DIRECT, "drop", False),
    ],
)
def test_what_counts_as_a_quasi_identifier(tier: Tier, part: Identifiability, id: str, counts: bool) -> None:
    assert STANDARD.counts_as_quasi(field(tier, part), mask(id)) is counts


# --- reading a standard -----------------------------------------------------------------------------


def test_an_unknown_standard_is_refused_by_name() -> None:
    with pytest.raises(SluicegateError) as caught:
        standard.load("desensitisation/2")
    assert caught.value.reason is Reason.CONTRACT_INVALID
    assert "desensitisation/1" in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("tiers", "open"), None, "open"),
        (("tiers", "highly-private", "approvals"), 0, "fewer approvals"),
        (("thresholds", "public"), None, "public"),
        (("thresholds", "enclave", "leastK"), 1, "protects nobody"),
        (("floors", 0), None, "prohibited"),
        (("floors", 0, "sent"), True, "prohibited"),
        (("floors", 6, "categories"), ["fre-text"], "fre-text"),
        (("rounding", "amounts"), 100, "amounts"),
        (("floors", 1, "famlies"), ["suppression"], "famlies"),
        (("floors", 1, "tiers"), ["secret"], "secret"),
        (("digest",), "sha256:00", "digest"),
    ],
)
def test_a_standard_with_a_gap_is_refused(path: tuple[Any, ...], value: object, said: str) -> None:
    document = yaml12.load(FILE.read_bytes()).value
    target = document
    for key in path[:-1]:
        target = target[key]
    if value is None:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    with pytest.raises(SluicegateError) as caught:
        standard.parse(json.dumps(document).encode())
    assert caught.value.reason is Reason.CONTRACT_INVALID
    assert said in str(caught.value)
