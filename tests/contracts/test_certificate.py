"""The certificate of effectiveness: a receipt's own claim contradicts neither itself nor its contract."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from contracts import certificate, standard
from contracts.model import Effectiveness, Require, SharingModel
from contracts.papers import Bounds, Certificate, Spread
from contracts.receipt import Receipt
from tests import papers

HELD_TO = standard.load()
DEMANDED = Effectiveness(
    sharing_model=SharingModel.CONTROLLED,
    entity="citizen_id",
    quasi_identifiers=("district",),
    require=Require(k=10, entropy_l={"illness": 1.5}, t={"illness": 0.4, "cost": 0.2}, max_risk=0.05),
)
TYPES = {"district": "string", "illness": "string", "cost": "int64"}
SPREAD = {
    "illness": Spread(t_required=0.4, variational=0.35, ordered=None, entropy_required=1.5, entropy=1.9),
    "cost": Spread(t_required=0.2, variational=0.5, ordered=0.1, entropy_required=None, entropy=3.0),
}
CERTIFICATE = Certificate(
    level=3,
    sharing_model=SharingModel.CONTROLLED,
    tau=0.2,
    context_risk=1.0,
    dr_a=0.0,
    dr_b=0.1,
    dr_c=0.05,
    risk=0.05,
    risk_tolerated=0.05,
    risk_required=0.05,
    prosecutor_risk=0.1,
    journalist_risk=None,
    marketer_risk=0.04,
    uniques=0.0,
    suppressed=0.01,
    average_class=25.0,
    discernibility=9000.0,
    spread=SPREAD,
    loss=0.3,
)
BOUNDS = Bounds(
    entity="citizen_id",
    quasi_identifiers=("district",),
    composite=False,
    k_required=10,
    k_met=10,
    l_required={},
    l_met={},
    at_least=False,
    classes=4,
    class_commitment="sha256:" + "0" * 64,
    certificate=CERTIFICATE,
)


def _problems(stated: Certificate | None, **changed: Any) -> list[str]:
    bounds = msgspec.structs.replace(BOUNDS, certificate=stated, **changed)
    return list(certificate.problems(bounds, DEMANDED, HELD_TO, TYPES, suppressed=0.01))


def test_a_certificate_that_is_right_has_no_problem() -> None:
    assert _problems(CERTIFICATE) == []


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"sharing_model": SharingModel.ENCLAVE}, "the contract says controlled"),
        ({"tau": 0.34}, "other thresholds"),
        ({"risk_tolerated": 0.2}, "other thresholds"),
        ({"context_risk": 0.5, "risk": 0.025}, "none is documented"),
        ({"risk_required": None}, "the contract allows 0.05"),
        ({"risk_required": 0.06}, "the contract allows 0.05"),
        ({"risk_required": 0.04}, "the overall risk is 0.0500, allowed 0.04"),
        ({"dr_b": 0.08}, "the highest risk"),
        ({"prosecutor_risk": 0.05}, "the prosecutor's risk"),
        ({"risk": 0.01}, "the overall risk"),
        ({"dr_c": 0.03, "risk": 0.03}, "no classes have such"),  # below the marketer's
        ({"dr_c": 0.11, "risk": 0.11}, "no classes have such"),  # above the highest
        ({"marketer_risk": 0.05}, "the average class"),
        ({"suppressed": 0.0}, "the share suppressed"),
        ({"dr_a": 0.1, "risk": 1.0, "level": 2}, "share of classes above tau"),
        ({"dr_a": -0.1}, "share of classes above tau"),
        ({"uniques": 0.1}, "uniques"),
        ({"journalist_risk": 0.2, "register_columns": ("district",)}, "a register cannot raise"),
        ({"journalist_risk": 0.1}, "goes with the columns"),
        ({"register_columns": ("district",)}, "goes with the columns"),
        ({"journalist_risk": 0.1, "register_columns": ("sex",)}, "form no classes"),
        ({"loss": 0.005}, "less was lost than was suppressed"),
        ({"loss": 1.1}, "more than all"),
        ({"level": 4}, "level 4 does not follow"),
        ({"level": 2}, "level 2 does not follow"),
        ({"spread": {}}, "the spread of cost, illness was not measured"),
        ({"spread": {**SPREAD, "name": SPREAD["cost"]}}, "name is stated, which is not sent"),
    ],
    ids=str,
)
def test_a_figure_that_contradicts_another_or_the_contract(changed: dict[str, Any], says: str) -> None:
    found = _problems(msgspec.structs.replace(CERTIFICATE, **changed))
    assert any(says in problem for problem in found), found


@pytest.mark.parametrize(
    ("field", "changed", "says"),
    [
        ("illness", {"ordered": 0.1}, "not the one for string"),
        ("cost", {"ordered": None}, "not the one for int64"),
        ("illness", {"t_required": 0.5}, "the contract allows 0.4"),
        ("illness", {"t_required": None}, "the contract allows 0.4"),
        ("illness", {"variational": 0.41}, "t is 0.4100, allowed 0.4"),
        ("cost", {"ordered": 0.3}, "t is 0.3000, allowed 0.2"),
        ("illness", {"entropy_required": 1.4}, "the contract demands 1.5"),
        ("illness", {"entropy_required": None}, "the contract demands 1.5"),
        ("illness", {"entropy": 1.4}, "entropy l is 1.4000, needed 1.5"),
        ("cost", {"ordered": 0.1, "variational": 0.05}, "no values have"),
        ("cost", {"variational": 1.1}, "no values have"),
        ("cost", {"entropy": 0.5}, "no values have"),
    ],
    ids=str,
)
def test_a_spread_that_contradicts_itself_or_the_contract(field: str, changed: dict[str, Any], says: str) -> None:
    spread = {**SPREAD, field: msgspec.structs.replace(SPREAD[field], **changed)}
    found = _problems(msgspec.structs.replace(CERTIFICATE, spread=spread))
    assert any(says in problem for problem in found), found


def test_without_a_certificate_only_what_needs_one_is_missed() -> None:
    assert _problems(None) == ["the contract bounds t, entropy or risk, and no certificate is shown"]
    plain = msgspec.structs.replace(DEMANDED, require=Require(k=10))
    before = msgspec.structs.replace(BOUNDS, certificate=None)
    assert list(certificate.problems(before, plain, HELD_TO, TYPES, suppressed=0.01)) == []
    assert "no certificate" in certificate.text(None, at_least=False)


def test_a_receipt_from_before_there_were_certificates_is_still_read() -> None:
    payload = papers.make().receipt.payload
    bounds = {name: value for name, value in payload["bounds"].items() if name != "certificate"}
    receipt = msgspec.convert({**payload, "bounds": bounds}, Receipt, strict=True)
    assert receipt.bounds is not None
    assert receipt.bounds.certificate is None


def test_the_line_for_people_says_what_was_required() -> None:
    told = certificate.text(CERTIFICATE, at_least=False)
    for part in (
        "level 3 of 4",
        "R 0.0500",
        "allowed 0.05",
        "t of cost 0.1000 ordered (allowed 0.2)",
        "illness 0.3500",
    ):
        assert part in told
    stopped = certificate.text(CERTIFICATE, at_least=True)
    assert "level at least 3" in stopped
    assert "R at most 0.0500" in stopped
