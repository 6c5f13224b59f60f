"""The bundle as shipped: sealed, described by its schema, in step with the standard and with itself."""

from __future__ import annotations

import json
import os
import re
import subprocess

import conftest
import jsonschema
import pytest
import seal_bundle
import suite

from contracts import standard
from contracts.errors import Reason, SluicegateError
from contracts.model import Identifiability, SharingClass, Tier
from contracts.policy import shipped
from contracts.policy.embedded import EmbeddedEngine
from contracts.policy.engine import Action, question


def test_shipped_bundle_is_sealed() -> None:
    """After changing a policy: python tests/policy/seal_bundle.py"""
    assert shipped.load().digest == shipped.digest_of(seal_bundle.files())
    assert json.loads(seal_bundle.SCHEMA.read_text()) == seal_bundle.schema()


@pytest.mark.parametrize(
    "name", ["sluicegate/offer.rego", "sluicegate/limits/data.json", ".manifest", "schemas/input.json"]
)
def test_digest_covers_every_file(name: str) -> None:
    files = dict(shipped.load().files)
    files[name] += b"\n"
    assert shipped.digest_of(files) != shipped.load().digest
    with pytest.raises(SluicegateError, match="changed after it was sealed") as caught:
        shipped.bundle_of(files)
    assert caught.value.reason is Reason.POLICY_UNAVAILABLE


def test_the_whole_bundle_allows() -> None:
    """Else the bundles with a part missing would prove nothing."""
    assert allows(shipped.load())


def test_digest_ignores_tests_and_itself() -> None:
    files = {**shipped.load().files, "sluicegate/x_test.rego": b"package x", shipped.DIGEST_DOCUMENT: b"{}"}
    assert shipped.digest_of(files) == shipped.load().digest


def test_digest_tells_names_from_bytes() -> None:
    assert shipped.digest_of({"ab.rego": b"c"}) != shipped.digest_of({"a.rego": b"bc"})
    assert shipped.digest_of({"a.rego": b"", "b.rego": b"x"}) != shipped.digest_of({"a.rego": b"x", "b.rego": b""})


@pytest.mark.parametrize("carried", [None, b"", b"[]", b"{}", b"\xff", b'{"digest": 7}'])
def test_bundle_without_its_digest_is_refused(carried: bytes | None) -> None:
    files = dict(shipped.load().files)
    del files[shipped.DIGEST_DOCUMENT]
    if carried is not None:
        files[shipped.DIGEST_DOCUMENT] = carried
    with pytest.raises(SluicegateError) as caught:
        shipped.bundle_of(files)
    assert caught.value.reason is Reason.POLICY_UNAVAILABLE


@pytest.mark.parametrize("action", list(Action))
def test_schema_accepts_whole_inputs_only(action: Action) -> None:
    """The JSON Schema and the policy draw the same line through the base inputs with one key missing."""
    validator = jsonschema.Draft202012Validator(seal_bundle.schema())
    assert validator.is_valid(question(action, suite.base(action), "d-1"))
    for path in suite.paths(suite.base(action)):
        changed = suite.base(action)
        parent, key = suite.locate(changed, "/".join(path))
        if isinstance(parent, dict) and parent[key] is not True and not (len(path) > 1 and path[-2] == "l"):
            del parent[key]
            assert not validator.is_valid(question(action, changed, "d-1")), path


def test_limits_are_those_of_the_standard() -> None:
    """Two documents say how strict the exchange is; they must not drift apart."""
    held, limits = standard.load(), shipped.load().data["sluicegate"]["limits"]
    assert limits["approvals"] == {tier.value: held.approvals_needed(tier) for tier in Tier}
    assert limits["k_floor"] == {model.value: threshold.least_k for model, threshold in held.thresholds.items()}


def test_table_of_masks_says_what_the_rules_say() -> None:
    """Every combination of facts, and which checks it faces: stated here in words, there as a table."""
    table = shipped.load().data["sluicegate"]["masks"]
    hidden, plain = {"removed", "pseudonym"}, {"open", "internal"}
    assert set(table) == {tier.value for tier in Tier}
    for tier, kinds in table.items():
        assert set(kinds) == {word.value for word in Identifiability}
        for kind, treatments in kinds.items():
            assert set(treatments) == {"removed", "pseudonym", "coarsened", "kept", "encrypted", "aggregated"}
            for treatment, found in treatments.items():
                if treatment == "aggregated":  # nothing of a row is left that the other checks are about
                    refused = {"FIELD_PROHIBITED"} if tier == "prohibited" else set()
                    assert set(found) == refused | ({"DIRECT_AGGREGATED"} if kind == "direct" else set())
                    continue
                recognisable = kind in {"direct", "quasi"} or (kind, tier) == ("indirect", "semi-private")
                expected = {
                    "FIELD_PROHIBITED": tier == "prohibited",
                    "DIRECT_KEPT": kind == "direct" and treatment == "kept",
                    "DIRECT_IDENTIFIABLE": (kind, tier) == ("direct", "highly-private")
                    and treatment not in {*hidden, "kept"},
                    "REVERSIBLE": treatment == "encrypted",
                    "KEEP_UNJUSTIFIED": treatment == "kept" and tier not in plain,
                    "QUASI_UNDECLARED": recognisable and treatment not in {*hidden, "encrypted"},
                    "SENSITIVE_UNBOUNDED": (kind, tier) == ("sensitive", "highly-private") and treatment != "removed",
                }
                assert set(found) == {code for code, faced in expected.items() if faced}, (tier, kind, treatment)
                assert len(found) == len(set(found))


def test_every_code_has_a_message_and_a_scenario() -> None:
    data = shipped.load().data["sluicegate"]
    sources = "\n".join(shipped.load().modules.values())
    tabled = {
        code for kinds in data["masks"].values() for done in kinds.values() for some in done.values() for code in some
    }
    judged = set(re.findall(r'^(?:failing|lapsed) contains "([A-Z_]+)"', sources, re.MULTILINE)) | tabled
    named = set(re.findall(r'"([A-Z_]{4,})": \{|offenders\["([A-Z_]+)"\]', sources))
    assert judged == set(data["messages"])
    assert judged == {one or other for one, other in named}
    tested = {code for scenario in suite.scenarios() for code in scenario.codes}
    assert judged - tested == set()


def test_sharing_classes_are_those_of_the_model() -> None:
    source = shipped.load().modules["sluicegate/publish.rego"]
    assert all(f'"{word.value}"' in source for word in SharingClass)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param({"sluicegate/offer.rego": b"package sluicegate.offer\nthis is no rego {{{"}, id="does not parse"),
        pytest.param({"sluicegate/decision.rego": b"package sluicegate\n"}, id="has no entry point"),
        pytest.param({"sluicegate/limits/data.json": b"[]"}, id="has data that is no object"),
        pytest.param({"sluicegate/offer.rego": b"\xff\xfe"}, id="is not text"),
    ],
)
def test_broken_bundle_never_decides(damage: dict[str, bytes]) -> None:
    files = {**shipped.load().files, **damage}
    broken = shipped.Bundle(files, shipped.digest_of(files))
    with pytest.raises(SluicegateError) as caught:
        EmbeddedEngine(broken).decide(Action.TRANSFER, suite.base(Action.TRANSFER))
    assert caught.value.reason is Reason.POLICY_UNAVAILABLE


@pytest.mark.parametrize(
    "gone",
    [
        "sluicegate/limits/data.json",
        "sluicegate/shapes/data.json",
        "sluicegate/masks/data.json",
        "sluicegate/offer.rego",
        "sluicegate/shape.rego",
        "sluicegate/duties.rego",
        "sluicegate/transfer.rego",
    ],
)
def test_bundle_with_a_part_missing_never_allows(gone: str) -> None:
    files = {name: raw for name, raw in shipped.load().files.items() if name != gone}
    files[shipped.DIGEST_DOCUMENT] = json.dumps({"digest": shipped.digest_of(files)}).encode()
    assert not allows(shipped.bundle_of(files))


def allows(bundle: shipped.Bundle) -> bool:
    """Whether a bundle lets the base transfer through; no decision is none."""
    try:
        return EmbeddedEngine(bundle).decide(Action.TRANSFER, suite.base(Action.TRANSFER)).allow
    except SluicegateError as error:
        if error.reason is not Reason.POLICY_UNAVAILABLE:
            raise
        return False


@pytest.mark.needs_opa
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["check", "--strict", "--bundle"], id="check"),
        pytest.param(["test", "--bundle"], id="test"),
        pytest.param(["fmt", "--list", "--fail"], id="fmt"),
    ],
)
def test_opa_is_content(command: list[str]) -> None:
    assert conftest.OPA is not None
    ran = subprocess.run(
        [conftest.OPA, *command, str(conftest.BUNDLE)], capture_output=True, text=True, env={**os.environ}, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
