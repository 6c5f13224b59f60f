"""What a recipient gains from releases of one dataset with other fields, other weeks, other k: it is judged as if one
release had them all."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.keys import AgreementSecrets
from connectors.sent import gains
from connectors.sent import records as sent_records
from contracts.dtypes import INT64, STRING
from contracts.errors import Reason, SluicegateError
from contracts.plan import Plan
from tests.connectors import plans
from tests.connectors.sent.test_gains import HMAC, KEEP, Recipient, Row, histories, patterns, people

K = 5
OTHERS = AgreementSecrets(b"q" * 32, "sha256:b", "rel-a")


def selection(*names: str, k: int = K, agreement: str = "a", **changes: Any) -> Plan:
    """A plan that sends these quasi-identifiers and the illness, under an agreement of its own."""
    sent = {**dict.fromkeys(names, (KEEP, INT64)), "s": (KEEP, STRING)}
    named = {"quasi_identifiers": names, "k": k, "agreement_digest": f"sha256:{agreement * 64}", **changes}
    return plans.plan(sent, **named)


def persons(count: int, *, first: int = 0, a: int = 1, b: int = 0) -> list[Row]:
    return [{**row, "b": b} for row in people(count, first=first, a=a)]


# --- differences of two pulls


def test_no_group_of_1_to_19_rows_is_isolated(tmp_path: Path) -> None:
    """Twenty classes, and in the next week from 1 to 20 newcomers in each: k is 20, so only the last are told."""
    recipient, plan = Recipient(tmp_path), selection("a", k=20)
    table = [row for a in range(1, 21) for row in persons(40, first=1000 * a, a=a)]
    newcomers = [row for a in range(1, 21) for row in persons(a, first=1000 * a + 500, a=a)]
    recipient.take(plan, table)
    got = recipient.take(plan, [*table, *newcomers])
    assert Counter(row["a"] for row in got) == {**dict.fromkeys(range(1, 20), 40), 20: 60}
    assert recipient.gains.persons == sum(range(1, 20))


def test_a_new_week_leaves_whole_and_late_comers_of_the_last_one_do_not(tmp_path: Path) -> None:
    recipient, plan = Recipient(tmp_path), selection("a")
    recipient.take(plan, persons(50, a=1))
    got = recipient.take(plan, [*persons(50, a=1), *persons(3, first=60, a=1), *persons(40, first=20, a=2)])
    assert Counter(row["a"] for row in got) == {1: 50, 2: 40}


def test_hospital_and_week_that_a_pseudonym_joins_over_two_releases(tmp_path: Path) -> None:
    """Of each hospital and week there are forty or more; one pseudonym's two visits are those of four."""
    recipient = Recipient(tmp_path)
    plan = plans.plan(
        {"a": (KEEP, INT64), "b": (KEEP, INT64), "id": (HMAC, STRING)},
        quasi_identifiers=("a", "b"),
        pseudonyms=("id",),
        k=K,
    )
    first = [row for hospital in range(10) for row in persons(40, first=40 * hospital, a=hospital, b=1)]
    second = [{**row, "a": index % 10, "b": 2} for index, row in enumerate(first)]
    alone = Counter((row["a"], row["b"]) for row in [*first, *second])
    assert min(alone.values()) == 40
    recipient.take(plan, first)
    got = recipient.take(plan, [*first, *second])
    assert len(got) == len(first)
    assert all(len(found) >= K for found in histories(recipient.got, "id").values())


# --- other fields


@pytest.mark.parametrize("few", [1, K - 1, K])
def test_a_new_field_shows_by_its_suppressed_cells_nobody(tmp_path: Path, few: int) -> None:
    """The new field's small cell is suppressed in the second release, and would be the difference to the first."""
    recipient = Recipient(tmp_path)
    table = [*persons(100 - few), *persons(few, first=100 - few, b=1)]
    assert len(recipient.take(selection("a"), table)) == 100
    got = recipient.take(selection("a", "b", agreement="b"), table)
    assert len(got) == (0 if few < K else 100)


@pytest.mark.parametrize("few", [1, K - 1, K])
def test_a_table_nested_in_another_shows_nobody(tmp_path: Path, few: int) -> None:
    """First the fine one, whose small cell is suppressed; then the coarse one, in which it would be again."""
    recipient = Recipient(tmp_path)
    table = [*persons(100 - few), *persons(few, first=100 - few, b=1)]
    recipient.take(selection("a", "b"), table)
    got = recipient.take(selection("a", agreement="b"), table)
    assert len(got) == (100 - few if few < K else 100)


def test_quasi_identifiers_of_two_releases_are_not_crossed(tmp_path: Path) -> None:
    """By each of two fields alone there are fifty; the two who differ in both would be told by both releases."""
    recipient = Recipient(tmp_path)
    table = [*persons(50), *persons(48, first=50, a=2, b=1), *persons(2, first=98, a=2, b=0)]
    assert len(recipient.take(selection("a"), table)) == 100
    got = recipient.take(selection("b", agreement="b"), table)
    assert {(row["a"], row["b"]) for row in got} == {(1, 0)}


def test_other_columns_beside_the_same_quasi_identifiers_are_compared_by_persons(tmp_path: Path) -> None:
    recipient = Recipient(tmp_path)
    less = plans.plan({"a": (KEEP, INT64)}, quasi_identifiers=("a",), k=K)
    recipient.take(selection("a"), persons(100))
    assert len(recipient.take(less, persons(103))) == 100
    assert len(recipient.take(less, persons(105))) == 105


def test_a_kept_pseudonym_joins_selections_that_have_nothing_else_in_common(tmp_path: Path) -> None:
    """Two moved: both classes are large, before and after, but the household is told in both releases."""
    recipient = Recipient(tmp_path)

    def joining(name: str, agreement: str) -> Plan:
        return plans.plan(
            {name: (KEEP, INT64), "house": (KEEP, STRING)},
            quasi_identifiers=(name,),
            pseudonyms=("house",),
            k=K,
            agreement_digest=f"sha256:{agreement * 64}",
        )

    table = [{**row, "house": row["id"]} for row in [*persons(50, b=1), *persons(50, first=50, a=2, b=2)]]
    table[0] = {**table[0], "b": 2}
    assert len(recipient.take(joining("a", "a"), table)) == 100
    got = recipient.take(joining("b", "b"), table)
    assert {row["a"] for row in got} == {2}


ROW = st.fixed_dictionaries(
    {
        "id": st.sampled_from([f"p{i}" for i in range(12)]),
        "a": st.none() | st.integers(0, 1),
        "b": st.integers(0, 1),
        "s": st.sampled_from(["flu", "cold"]),
    }
)
SELECTIONS: list[tuple[str, ...]] = [("a",), ("b",), ("a", "b")]


def isolated(
    one: list[Row], mine: tuple[str, ...], other: list[Row], theirs: tuple[str, ...]
) -> dict[tuple[Any, Any], set[str]]:
    """Whom two releases tell apart, of what both have in common: by a cell, and by who is in one of them alone (a
    first or second class of None)."""
    common = [name for name in mine if name in theirs]
    found: dict[Any, set[str]] = defaultdict(set)

    def classes(rows: list[Row], names: tuple[str, ...]) -> dict[Any, set[Any]]:
        joined: dict[Any, set[Any]] = defaultdict(set)
        for row in rows:
            joined[row["id"], tuple(row[name] for name in common)].add(tuple(row[name] for name in names))
        return joined

    first, second = classes(one, mine), classes(other, theirs)
    stayed = {of for key, many in first.items() if key in second for of in many}
    for key in {*first, *second}:
        for old in first.get(key, {None}):
            for new in second.get(key, {None}):
                if new is not None or old in stayed:
                    found[old, new].add(key[0])
    return found


@settings(max_examples=60, deadline=None)
@given(
    tables=st.lists(st.lists(ROW, min_size=10, max_size=50), min_size=1, max_size=2),
    chosen=st.lists(st.sampled_from(SELECTIONS), min_size=2, max_size=3, unique=True)
    | st.lists(st.sampled_from(SELECTIONS), min_size=3, max_size=4),
    k=st.integers(2, 3),
    budget=st.sampled_from([7, 1000]),
)
def test_no_two_releases_of_other_fields_isolate_fewer_than_k(
    tables: list[list[Row]], chosen: list[tuple[str, ...]], k: int, budget: int
) -> None:
    """Who came and who went is told of rows where a selection has several releases, and is in its patterns then."""
    with tempfile.TemporaryDirectory() as folder:
        recipient = Recipient(Path(folder))
        for index, names in enumerate(chosen):
            rows = [{"house": None, **row} for row in tables[index % len(tables)]]
            recipient.take(selection(*names, k=k, agreement=str(len(names))), rows, budget=budget)
    for later, (mine, other) in enumerate(zip(chosen, recipient.got, strict=True)):
        for theirs, one in zip(chosen[:later], recipient.got[:later], strict=True):
            if other and mine != theirs:
                for cell, found in isolated(one, theirs, other, mine).items():
                    assert len(found) >= k or (None in cell and len(set(chosen)) < len(chosen))


# --- what is the same, and what is too much


def test_the_same_rows_again_cost_no_file_and_are_compared_ever_after(tmp_path: Path) -> None:
    recipient, plan = Recipient(tmp_path), selection("a")
    assert len(recipient.take(plan, persons(100))) == 100
    assert len(recipient.take(plan, persons(120))) == 120
    assert len(recipient.take(plan, persons(100))) == 100
    files = [tmp_path / f"rel-{index}" / "rows.arrow" for index in range(3)]
    assert files[1].stat().st_ino == files[2].stat().st_ino != files[0].stat().st_ino
    assert len(recipient.take(plan, persons(117))) == 100
    assert len(recipient.take(plan, persons(99))) == 0
    assert all(len(found) >= K for found in patterns(recipient.got).values())


def test_the_same_rows_again_where_no_file_can_be_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(sent_records.os, "link", refused)
    recipient, plan = Recipient(tmp_path), selection("a")
    for _ in range(2):
        recipient.take(plan, persons(100))
    assert (tmp_path / "rel-1" / "rows.arrow").stat().st_mode & 0o777 == 0o600
    assert len(recipient.take(plan, persons(103))) == 100


def test_a_copy_of_another_agreements_rows_is_still_joined_by_its_own_pseudonyms(tmp_path: Path) -> None:
    """Of each class six went and six came, which rows may tell; only three of them had the same way."""
    recipient = Recipient(tmp_path)
    joining = plans.plan(
        {"a": (KEEP, INT64), "s": (KEEP, STRING), "id": (HMAC, STRING)},
        quasi_identifiers=("a",),
        pseudonyms=("id",),
        k=K,
        agreement_digest="sha256:" + "b" * 64,
    )
    before = [row for a in range(3) for row in persons(50, first=100 * a, a=a)]
    moved = [
        {**row, "a": (row["a"] + (index % 50 < 3) + 2 * (3 <= index % 50 < 6)) % 3} for index, row in enumerate(before)
    ]
    recipient.take(joining, before, OTHERS)
    assert len(recipient.take(selection("a"), moved)) == 150
    recipient.take(joining, moved, OTHERS)
    assert all(len(found) >= K for found in histories(recipient.got[::2], "id").values())


def test_a_higher_k_than_before_is_counted_anew(tmp_path: Path) -> None:
    recipient = Recipient(tmp_path)
    recipient.take(selection("a"), persons(100))
    recipient.take(selection("a"), persons(107))
    assert len(recipient.take(selection("a", k=10), persons(107))) == 100
    assert len(recipient.take(selection("a", k=10), persons(117))) == 110


def test_more_selections_of_fields_than_are_compared_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sent_records, "MOST_DEFINITIONS", 2)
    recipient = Recipient(tmp_path)
    recipient.take(selection("a"), persons(100))
    recipient.take(selection("b"), persons(100))
    with pytest.raises(SluicegateError) as caught:
        recipient.take(selection("a", "b"), persons(100))
    assert caught.value.reason is Reason.REFRESH_PENDING
    assert len(recipient.take(selection("b"), persons(100))) == 100


def test_more_rows_than_are_remembered_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent_records, "MOST_ENTRIES", 210)
    recipient, plan = Recipient(tmp_path), selection("a")
    for day in range(2):
        recipient.take(plan, persons(100, first=100 * day), days=3)
    with pytest.raises(SluicegateError) as caught:
        recipient.take(plan, persons(100, first=200))
    assert caught.value.reason is Reason.REFRESH_PENDING
    recipient.now += 2 * 86_400  # the first is to be gone by now
    assert len(recipient.take(plan, persons(100, first=200), name="rel-later")) == 100


def test_more_pairs_than_can_be_looked_at_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gains, "MOST_PAIRS", 99)
    recipient = Recipient(tmp_path)
    recipient.take(selection("a"), persons(100))
    with pytest.raises(SluicegateError) as caught:
        recipient.take(selection("b"), persons(100))
    assert caught.value.reason is Reason.REFRESH_PENDING
