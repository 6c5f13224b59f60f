"""Strangers' bytes at every entrance: past finds again, and fresh ones, a bounded number on every run."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.mutating import spoilt
from tests.fuzz.targets import TARGETS, attack, kept

NAMES = sorted(TARGETS)


@pytest.mark.parametrize("name", NAMES)
def test_good_examples_and_past_finds(name: str) -> None:
    for data in kept(TARGETS[name]):
        attack(TARGETS[name], data)


@pytest.mark.parametrize("name", NAMES)
def test_good_examples_are_good(name: str) -> None:
    """Otherwise everything below would be refused at the door."""
    TARGETS[name].run(TARGETS[name].seeds()[0])


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=150)
@given(seed=st.integers(0, 2**64 - 1), which=st.integers(0, 1000))
def test_near_a_good_example(name: str, seed: int, which: int) -> None:
    examples = kept(TARGETS[name])
    attack(TARGETS[name], spoilt(examples[which % len(examples)], random.Random(seed)))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=50)
@given(data=st.binary(max_size=2000) | st.text(max_size=500).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_anything(name: str, data: bytes) -> None:
    attack(TARGETS[name], data)
