"""One behaviour suite, every engine: scenarios, and every key of every input deleted and nulled."""

from __future__ import annotations

import pytest
import suite

from contracts.policy.engine import Action, PolicyEngine

SCENARIOS = suite.scenarios()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: f"{scenario.file}: {scenario.name}")
def test_scenario(engine: PolicyEngine, scenario: suite.Scenario) -> None:
    decision = engine.decide(scenario.action, scenario.input())
    assert decision.allow is scenario.allow, decision.reasons
    assert sorted({reason.code for reason in decision.reasons}) == sorted(scenario.codes)
    if scenario.fields is not None:
        assert sorted({reason.field for reason in decision.reasons}) == sorted(scenario.fields)
    if scenario.obligations is not None:
        assert list(decision.obligations) == scenario.obligations
    if not scenario.allow:
        assert decision.obligations == ()
    assert decision.bundle_digest == engine.bundle_digest
    assert decision.seconds > 0


@pytest.mark.parametrize("action", list(Action))
def test_base_input_is_allowed(engine: PolicyEngine, action: Action) -> None:
    """Else the two tests below would prove nothing."""
    assert engine.decide(action, suite.base(action)).allow


@pytest.mark.parametrize("action", list(Action))
def test_every_key_deleted_is_a_refusal(engine: PolicyEngine, action: Action) -> None:
    allowed = []
    for path in suite.paths(suite.base(action)):
        changed = suite.base(action)
        parent, key = suite.locate(changed, "/".join(path))
        if isinstance(parent, dict):
            del parent[key]
            if engine.decide(action, changed).allow:
                allowed.append("/".join(path))
    assert allowed == []


@pytest.mark.parametrize("action", list(Action))
def test_every_value_nulled_is_a_refusal_unless_optional(engine: PolicyEngine, action: Action) -> None:
    allowed = set()
    for path in suite.paths(suite.base(action)):
        changed = suite.base(action)
        parent, key = suite.locate(changed, "/".join(path))
        parent[key] = None
        if engine.decide(action, changed).allow:
            allowed.add(path)
    assert {path for path in allowed if not suite.optional(path)} == set()
    assert (("contract", "sharing", "legal_basis") in allowed) is (action != Action.LEDGER_READ)


@pytest.mark.parametrize("action", list(Action))
def test_every_part_of_another_type_is_a_refusal(engine: PolicyEngine, action: Action) -> None:
    """A number where anything else belongs, and a text where a number does."""
    allowed = []
    for path in suite.paths(suite.base(action)):
        changed = suite.base(action)
        parent, key = suite.locate(changed, "/".join(path))
        if parent[key] is not True:  # the members of a set of names: their values say nothing
            parent[key] = "text" if isinstance(parent[key], int | float) and not isinstance(parent[key], bool) else 7
            if engine.decide(action, changed).allow:
                allowed.append("/".join(path))
    assert allowed == []


NAMES = {"fields", "quasi_identifiers", "l"}  # objects whose keys are names of fields, as many as there are


@pytest.mark.parametrize("action", list(Action))
def test_every_object_with_a_key_more_is_a_refusal(engine: PolicyEngine, action: Action) -> None:
    allowed = []
    for path in [(), *suite.paths(suite.base(action))]:
        changed = suite.base(action)
        parent, key = suite.locate({"": changed}, "/".join(("", *path)))
        if isinstance(parent[key], dict) and not (path and path[-1] in NAMES):
            parent[key]["surplus"] = "x"
            decision = engine.decide(action, changed)
            assert decision.allow or "INPUT_UNKNOWN" in {reason.code for reason in decision.reasons} or "groups" in path
            if decision.allow:
                allowed.append("/".join(path))
    assert allowed == []


def test_unknown_action_and_empty_input(engine: PolicyEngine) -> None:
    decision = engine.decide(Action.TRANSFER, {})
    assert not decision.allow
    assert {reason.code for reason in decision.reasons} == {"INPUT_INCOMPLETE"}
    other = engine.decide(Action.LEDGER_READ, suite.base(Action.TRANSFER))
    assert not other.allow


def test_ids_differ(engine: PolicyEngine) -> None:
    base = suite.base(Action.LEDGER_READ)
    assert len({engine.decide(Action.LEDGER_READ, base).id for _ in range(5)}) == 5


@pytest.mark.needs_opa
def test_engines_agree_to_the_letter(opa_url: str) -> None:
    """Same verdict, same reasons in the same words, same obligations, on every scenario."""
    from contracts.policy.embedded import EmbeddedEngine
    from contracts.policy.opa_server import OpaServerEngine

    here, there = EmbeddedEngine(), OpaServerEngine(opa_url, unsafe_plaintext=True, timeout=10)
    for scenario in SCENARIOS:
        one, other = here.decide(scenario.action, scenario.input()), there.decide(scenario.action, scenario.input())
        assert (one.allow, one.reasons, one.obligations) == (other.allow, other.reasons, other.obligations), (
            scenario.name
        )
    there.close()
