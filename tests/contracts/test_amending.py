"""Amending a contract in place: what was meant is there, and nothing else moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import yaml12
from contracts.amending import amend
from contracts.errors import Reason, SluicegateError

DOCUMENT = b"""# What is shared, and how.
version: 1.0.0  # of the contract
fields:
  age: {mask: bucket, size: 5}   # years
  education:
    mask: hierarchy
    # coarser to the right
    table:
      Bachelors: [degree, any]
      "9th": [school, any]
    other: less
  address: {mask: prefix, length: 3}
  names:
    - {name: a}
    - name: b
      value: 1
# the end
"""


def test_values_are_replaced_where_they_stand() -> None:
    changed = amend(
        DOCUMENT,
        [
            (("version",), "2.0.0"),
            (("fields", "age"), {"mask": "null"}),
            (("fields", "address", "length"), 2),
            (("fields", "names", 1, "value"), [1, "two", None, True, "0x1", "1e3", "no"]),
        ],
    ).decode()
    assert changed == (
        DOCUMENT.decode()
        .replace("1.0.0", "2.0.0")
        .replace("{mask: bucket, size: 5}", "{mask: 'null'}")
        .replace("length: 3", "length: 2")
        .replace("value: 1", "value: [1, two, null, true, '0x1', '1e3', 'no']")
    )


def test_a_key_that_is_not_there_is_added_to_its_map() -> None:
    changed = amend(DOCUMENT, [(("fields", "education", "level"), 2), (("fields", "age", "origin"), 3)]).decode()
    assert changed == DOCUMENT.decode().replace("    other: less", "    other: less\n    level: 2").replace(
        "size: 5}", "size: 5, origin: 3}"
    )


def test_a_block_becomes_one_line_and_its_neighbours_stay() -> None:
    changed = amend(DOCUMENT, [(("fields", "education"), {"mask": "drop"})]).decode()
    begin, end = DOCUMENT.decode().split("  education:")
    assert changed == f"{begin}  education: {{mask: drop}}\n  address:{end.partition('  address:')[2]}"


@pytest.mark.parametrize("path", [("fields", "sex", "mask"), ("version", "major"), ("fields", "names", 7, "value")])
def test_a_path_that_leads_nowhere_is_refused(path: tuple[str | int, ...]) -> None:
    with pytest.raises(SluicegateError) as caught:
        amend(DOCUMENT, [(path, 1)])
    assert caught.value.reason is Reason.INVALID_ARGUMENT


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=6), inner, max_size=3),
    max_leaves=6,
)


@given(value=JSON, path=st.sampled_from([("version",), ("fields", "age"), ("fields", "education"), ("fields", "new")]))
def test_whatever_is_set_reads_back(value: Any, path: tuple[str | int, ...]) -> None:
    """Also what looks like YAML, and what no contract may hold: that one is refused, never half written."""
    try:
        amended = amend(DOCUMENT, [(path, value)])
    except SluicegateError as error:
        refused = error.reason
    else:
        refused = None
    assert refused in (None, Reason.CONTRACT_INVALID)
    if refused is not None:
        return
    found: Any = yaml12.load(amended).value
    for key in path:
        found = found[key]
    assert found == value


def test_every_example_can_be_amended_anywhere() -> None:
    raw = (Path(__file__).resolve().parents[2] / "examples/hospital-visits.odcs.yaml").read_bytes()
    document: Any = yaml12.load(raw).value
    paths = [("version",), *_scalars(document["customProperties"], ("customProperties",))]
    assert len(paths) > 50
    for path in paths:
        assert amend(raw, [(path, "amended")]).count(b"\n") == raw.count(b"\n")


def _scalars(value: Any, path: tuple[str | int, ...]) -> list[tuple[str | int, ...]]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [found for key, item in items for found in _scalars(item, (*path, key))]
    return [path]
