"""redact: what detectors find is gone, and the rest of the text is as it was."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.identifiers import detectors
from connectors.keys import AgreementSecrets
from connectors.masks import redacting
from connectors.masks.masking import masked
from contracts import plan_rules, techniques
from contracts.dtypes import STRING
from contracts.errors import SluicegateError
from contracts.model import Identifiability, Tier
from contracts.policy import inputs
from contracts.standard import load
from tests.connectors import plans
from tests.connectors.identifiers.test_detectors import CARD, CITIZEN, FOUND, MISSED
from tests.contracts.test_residual import field

quick = settings(max_examples=100, deadline=None)


def redacted(*texts: str | None, **parameters: Any) -> list[str | None]:
    """What becomes of the texts."""
    plan = plans.thing_plan({"note": ({"mask": "redact", **parameters}, STRING)})
    frame = pl.LazyFrame({"note": pl.Series(texts, dtype=pl.String)})
    return masked(frame, plan, AgreementSecrets(b"k" * 32, "sha256:a")).collect()["note"].to_list()


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"家属身份证{CITIZEN}，电话13800138000。", "家属身份证[national-id]，电话[phone]。"),
        (f"{CITIZEN},{CITIZEN}", "[national-id],[national-id]"),
        (f"id{CITIZEN} {CARD}", "[national-id] [bank-card]"),
        ("card 4111 1111 1111 1111 of z@b.org", "card [bank-card] of [email]"),
        ("邮箱zhang@example.com（京a12345）", "邮箱[email]（[plate]）"),
        ("from 10.1.2.3 to v1.2.3.4", "from [ip] to v1.2.3.4"),
        ("电话：１３８００１３８０００", "电话：[phone]"),
        ("Passport No. EA1234567 expired", "[passport] expired"),
        ("nothing to hide，１２", "nothing to hide，１２"),
        ("", ""),
        (None, None),
    ],
)
def test_what_is_found_is_taken_out_and_the_rest_stays(text: str | None, left: str | None) -> None:
    assert redacted("other", text, text) == ["other", left, left]


def test_only_what_is_asked_for() -> None:
    assert redacted(f"13800138000 {CITIZEN}", detectors=["phone"]) == [f"[phone] {CITIZEN}"]


def test_words_of_dictionaries() -> None:
    wards = {"ward": ["East Wing", "East"], "street": ["人民路"]}
    texts = ("moved to east wing", "Eastern", "住人民路5号", "13800138000 in EAST WING")
    left = ["moved to [ward]", "[ward]ern", "住[street]5号", "[phone] in [ward]"]
    assert redacted(*texts, dictionaries=wards) == left


EVERY = [text for texts in FOUND.values() for text in texts]


@quick
@given(parts=st.lists(st.one_of(st.sampled_from(EVERY), st.sampled_from(MISSED), st.text(max_size=8)), max_size=5))
def test_detectors_find_nothing_in_what_is_left(parts: list[str]) -> None:
    (left,) = redacted(" ".join(parts))
    assert detectors.written(pl.Series([left]), tuple(FOUND)).is_empty()


@pytest.mark.parametrize("text", [text for text in MISSED if text])
def test_what_is_not_found_passes_unchanged(text: str) -> None:
    assert redacted(text) == [text]


def test_what_would_still_be_found_goes_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replacement that makes a new find of what stood around it."""
    monkeypatch.setattr(redacting, "_without", lambda texts, mask: dict.fromkeys(texts, "13800138000"))
    assert redacted("call 13900139000", "x") == [redacting.WHOLE, "x"]


def test_to_the_standard_it_is_keep() -> None:
    mask = techniques.parse({"mask": "redact"})
    standard = load()
    assert standard.breaches(field("semi-private", "quasi"), mask)
    assert standard.breaches(field("semi-private", "none", "free-text"), mask)
    assert not standard.breaches(field("internal", "none"), mask)
    assert inputs.treatment(mask) == "kept"


def test_a_redacted_column_still_joins_the_rows_of_a_person() -> None:
    declared = field("internal", "indirect")
    assert (declared.identifiability, declared.classification) == (Identifiability.INDIRECT, Tier.INTERNAL)
    for mask, joins in (({"mask": "redact"}, True), ({"mask": "keep"}, True), ({"mask": "prefix", "length": 2}, False)):
        technique = techniques.parse(mask)
        assert plan_rules.joins(declared, technique) is joins


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"detectors": []}, "detectors"),
        ({"detectors": ["phone", "phone"]}, "each once"),
        ({"detectors": ["image"]}, "detectors"),
        ({"dictionaries": {"Ward": ["East"]}}, "dictionaries"),
        ({"dictionaries": {"ward": ["E"]}}, "dictionaries"),
        ({"dictionaries": {"ward": ["East", "east"]}}, "once"),
        ({"dictionaries": {"ward": ["East]"]}}, "brackets"),
        ({"dictionaries": {"ward": [f"word {number}" for number in range(2001)]}}, "2001 words"),
    ],
    ids=str,
)
def test_parameters_at_their_limits(parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(SluicegateError) as caught:
        techniques.parse({"mask": "redact", **parameters})
    assert says in str(caught.value)
