"""Scripted days: every file of tests/scenarios, step by step, through the real use cases.

A file has a `story`, optionally a `contract` ({sharing, signers}), the `day`, and the `ledger`: the events
that must stand in it at the end, in order. A step of the day is one of

    who, does, on, with    an actor's deed on a thing, with arguments; `as` names the result
        state, shows         what must be true of the result: its state, other attributes
        refused, because     or: the reason it is refused with, words that the error must contain
    wait                   seconds that pass
    stopped                what the gateway is told not to serve

`on` and arguments refer to earlier results by name, or to what those name: `wish`, `wish.agreement`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts import yaml12
from contracts.errors import Reason, SluicegateError
from exchange import agreements, rechecking, records, requests, transfers
from tests import papers
from tests.exchange.town import GATEWAY_NAME, Town
from tests.papers import STEWARD

SCENARIOS = sorted((Path(__file__).parent.parent / "scenarios").glob("*.yaml"))


class Step(msgspec.Struct, forbid_unknown_fields=True, rename={"with_": "with", "as_": "as"}):
    """One line of the day."""

    who: str = ""
    does: str = ""
    on: str = ""
    with_: dict[str, Any] = {}
    as_: str = ""
    state: str = ""
    shows: dict[str, Any] = {}
    refused: str = ""
    because: tuple[str, ...] = ()
    wait: int = 0
    stopped: tuple[str, ...] | None = None


class Terms(msgspec.Struct, forbid_unknown_fields=True):
    """The contract of the day."""

    sharing: str = "conditional"
    signers: tuple[str, ...] = (STEWARD,)


class Scenario(msgspec.Struct, forbid_unknown_fields=True):
    """A file."""

    story: str
    day: tuple[Step, ...]
    ledger: tuple[str, ...]
    contract: Terms = msgspec.field(default_factory=Terms)


class Day:
    """A scenario under way: the town, and the results so far by name."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.known: dict[str, records.Record] = {}

    def take(self, step: Step) -> None:
        """Do one step and check what it says."""
        if step.wait:
            self.town.wait(step.wait)
        elif step.stopped is not None:
            told = agreements.stopped(self.town.hall, GATEWAY_NAME)
            assert told == {self._name(one) for one in step.stopped}
        elif step.refused:
            with pytest.raises(SluicegateError) as caught:
                self._do(step)
            assert caught.value.reason is Reason(step.refused), caught.value
            text = str(caught.value)
            for words in step.because:
                assert words in text, f"{words!r} is not in: {text}"
        else:
            result = self._do(step)
            if step.as_:
                self.known[step.as_] = result
            assert step.state == getattr(result, "state", ""), result
            for attribute, expected in step.shows.items():
                found = getattr(result, attribute)
                found = list(found) if isinstance(found, tuple) else found
                assert found == (self._name(expected) if attribute == "agreement" else expected)

    def _do(self, step: Step) -> records.Record:
        given = {key: self._name(value) if key == "resume" else value for key, value in step.with_.items()}
        given = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
        if step.does == "look":
            return self._look(step.who, self._name(step.on))
        if step.does == "publish":
            return self.town.publish(papers.document(**given))
        deed: Callable[..., records.Record] = getattr(self.town, step.does)
        return deed(step.who, *([self._name(step.on)] if step.on else []), **given)

    def _look(self, who: str, name: str) -> records.Record:
        noun: dict[str, Any] = {"requests": requests, "agreements": agreements, "transfers": transfers}
        found: records.Record = noun[name.split("/")[0]].get(self.town.hall, self.town.principal(who), name)
        return found

    def _name(self, reference: str) -> str:
        name, _, attribute = reference.partition(".")
        if name not in self.known:
            return reference
        return str(getattr(self.known[name], attribute or "name"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_scripted_day(path: Path, tmp_path: Path) -> None:
    scenario = msgspec.convert(yaml12.load(path.read_bytes(), name=path.name).value, Scenario)
    terms = scenario.contract
    day = Day(Town(tmp_path, document=papers.document(terms.sharing), contract_signers=terms.signers))
    for number, step in enumerate(scenario.day, 1):
        try:
            day.take(step)
        except (AssertionError, SluicegateError, pytest.fail.Exception) as error:
            raise AssertionError(f"{path.name}, step {number} ({step.who} {step.does} {step.on}): {error}") from error
    assert day.town.events() == list(scenario.ledger)
    with day.town.store.read() as tx:
        assert rechecking.recheck(tx) == len(scenario.ledger)


def test_there_are_scenarios() -> None:
    assert len(SCENARIOS) >= 8
