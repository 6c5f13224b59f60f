"""What a recipient gains by subtracting and joining its releases: against plain counts over sets, and on real bytes."""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.keys import AgreementSecrets
from connectors.measures import classing
from connectors.measures.privacy import Measure
from connectors.sent import gains
from connectors.sent import records as sent_records
from connectors.sent.digests import CLASS, PERSON, SentDigests
from connectors.sent.digests import KEY as OF_ROW
from connectors.sent.gains import Earlier, Gains
from connectors.sent.records import SentRecord
from connectors.spooling.order import ReleaseKey
from connectors.spooling.packing import Alike
from contracts.dtypes import INT64, STRING
from contracts.errors import Reason, SluicegateError
from contracts.plan import Plan
from tests.connectors import plans

KEY = ReleaseKey(b"s" * 32, "rel-a")
SECRETS = AgreementSecrets(b"k" * 32, "sha256:a", "rel-a")
OTHERS = AgreementSecrets(b"q" * 32, "sha256:b", "rel-a")
KEEP, HMAC = {"mask": "keep"}, {"mask": "hmac", "domain": "person"}
DAY = 86_400
Row = dict[str, Any]
SCHEMA = {"id": pl.String, "house": pl.String, "a": pl.Int64, "b": pl.Int64, "s": pl.String}


def _plan(k: int, pseudonyms: tuple[str, ...] = (), **changes: Any) -> Plan:
    sent = {"a": (KEEP, INT64), "s": (KEEP, STRING), **dict.fromkeys(pseudonyms, (HMAC, STRING))}
    return plans.plan(sent, **{"quasi_identifiers": ("a",), "pseudonyms": pseudonyms, "k": k, **changes})


class Recipient:
    """One who takes release after release of one dataset, and keeps what it got."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.records, self.got = folder, dict[str, SentRecord](), list[list[Row]]()
        self.now, self.key = 1_770_000_000, "ab" * 32

    def take(
        self,
        plan: Plan,
        rows: Iterable[Row],
        secrets: AgreementSecrets = SECRETS,
        *,
        size: int = 100,
        budget: int = gains.BUDGET,
        days: int = 90,
        name: str | None = None,
    ) -> list[Row]:
        """Measure and remember the next release; the rows that left, as they came."""
        table, places = list(rows), classing.layout(plan)
        earlier = Earlier(self.folder, lambda: self.records, self.now, self.now + days * DAY, self.key)
        digests = SentDigests(plan, places, self.key)
        lazy = pl.DataFrame(table, schema=SCHEMA).lazy()
        hashed = classing.with_hashes(lazy, plan, secrets, places, KEY, beside=digests.beside(), person=PERSON)
        frame = hashed.collect()
        adding = digests.adding()
        pieces = [adding.added(frame.slice(start, size)) for start in range(0, frame.height, size)]

        def batches(columns: Sequence[str]) -> list[pl.DataFrame]:
            return [piece.select(columns) for piece in pieces]

        release = name or f"rel-{len(self.got)}"
        found = Gains(digests, earlier, release, batches, plan.k or 0, len(table), budget=budget)
        measure = Measure(
            lambda: batches(places.columns),
            places,
            k=plan.k or 0,
            l={},
            exact=True,
            compare=found,
        )
        self.verdict, self.gains = measure.run(most_suppressed=1.0), found
        record = found.remember(self.verdict.alive, self.folder / release)
        if record is not None:
            self.records[record.definition] = record
        masks = [
            mask.to_list() if mask is not None else [True] * len(piece)
            for piece, mask in zip(pieces, self.verdict.alive, strict=True)
        ]
        left = [row for row, stays in zip(table, itertools.chain(*masks), strict=True) if stays]
        self.got.append(left)
        self.now += DAY
        return left


def patterns(releases: list[list[Row]]) -> dict[Any, set[str]]:
    """The persons behind each (class, releases that had the row): what any set algebra of them is made of."""
    copies = [Counter((row["a"], row["id"], row["s"]) for row in rows) for rows in releases]
    found: dict[Any, set[str]] = defaultdict(set)
    for row in set().union(*copies):
        for copy in range(max(counted[row] for counted in copies)):
            found[row[0], tuple(counted[row] > copy for counted in copies)].add(row[1])
    return found


def histories(releases: list[list[Row]], pseudonym: str) -> dict[Any, set[str]]:
    """The persons behind each history of classes that a pseudonym joins."""
    joined: dict[str, list[set[Any]]] = defaultdict(lambda: [set() for _ in releases])
    persons: dict[str, set[str]] = defaultdict(set)
    for index, rows in enumerate(releases):
        for row in rows:
            if row[pseudonym] is not None:
                joined[row[pseudonym]][index].add(row["a"])
                persons[row[pseudonym]].add(row["id"])
    found: dict[Any, set[str]] = defaultdict(set)
    for unit, classes in joined.items():
        found[tuple(map(frozenset, classes))] |= persons[unit]
    return found


ROW = st.fixed_dictionaries(
    {
        "id": st.sampled_from([f"p{i}" for i in range(9)]),
        "house": st.none() | st.sampled_from(["h1", "h2"]),
        "a": st.none() | st.integers(0, 1),
        "s": st.none() | st.sampled_from(["flu", "cold"]),
    }
)


@st.composite
def growing(draw: st.DrawFn) -> list[list[Row]]:
    """Tables that each have much of the one before."""
    tables = [draw(st.lists(ROW, max_size=40, min_size=8))]
    for _ in range(draw(st.integers(1, 3))):
        stays = draw(st.lists(st.booleans(), min_size=len(tables[-1]), max_size=len(tables[-1])))
        kept = [row for row, flag in zip(tables[-1], stays, strict=True) if flag] if draw(st.booleans()) else tables[-1]
        tables.append([*kept, *draw(st.lists(ROW, min_size=1, max_size=12))])
    return tables


@settings(max_examples=60, deadline=None)
@given(
    tables=growing(),
    k=st.integers(2, 4),
    pseudonyms=st.sampled_from([(), ("id",), ("house",)]),
    size=st.integers(1, 50),
    budget=st.sampled_from([5, 1000]),
)
def test_no_set_algebra_of_releases_isolates_fewer_than_k(
    tables: list[list[Row]], k: int, pseudonyms: tuple[str, ...], size: int, budget: int
) -> None:
    """Whatever is subtracted from, intersected with or joined to whatever: nobody, or k persons."""
    with tempfile.TemporaryDirectory() as folder:
        recipient = Recipient(Path(folder))
        for table in tables:
            recipient.take(_plan(k, pseudonyms), table, size=size, budget=budget)
    for count in range(1, len(tables) + 1):
        got = recipient.got[:count]
        assert all(len(persons) >= k for persons in patterns(got).values())
        for name in pseudonyms:
            if name == "id":  # of a house that joins many, a person may be in several
                assert all(len(persons) >= k for persons in histories(got, name).values())


@settings(max_examples=25, deadline=None)
@given(tables=growing(), k=st.integers(2, 4))
def test_no_more_is_withheld_than_that(tables: list[list[Row]], k: int) -> None:
    """Against the rule applied to plain sets: rows of a pattern with too few who stay, or too few who went."""
    with tempfile.TemporaryDirectory() as folder:
        recipient = Recipient(Path(folder))
        for table in tables:
            left, before = list(table), list(recipient.got)
            while True:
                here = patterns([*before, left])
                few = set()
                for (of, pattern), persons in here.items():
                    gone = here.get((of, (*pattern[:-1], False)), set())
                    if pattern[-1] and (len(persons) < k or (any(pattern[:-1]) and 0 < len(gone) < k)):
                        few.add((of, pattern))
                counts = [Counter((row["a"], row["id"], row["s"]) for row in rows) for rows in before]
                copies: Counter[Any] = Counter()
                stays = []
                for row in left:
                    key = (row["a"], row["id"], row["s"])
                    pattern = (*(counted[key] > copies[key] for counted in counts), True)
                    copies[key] += 1
                    if (row["a"], pattern) not in few and len({r["id"] for r in left if r["a"] == row["a"]}) >= k:
                        stays.append(row)
                if len(stays) == len(left):
                    break
                left = stays
            got = recipient.take(_plan(k), table)
            plain, found = (Counter((row["a"], row["id"], row["s"]) for row in rows) for rows in (left, got))
            assert found == plain


def people(count: int, *, first: int = 0, a: int = 1, s: str = "flu") -> list[Row]:
    return [{"id": f"p{i}", "house": None, "a": a, "s": s} for i in range(first, first + count)]


@pytest.mark.parametrize("new", [1, 4, 5, 30])
def test_newcomers_wait_until_k_have_gathered(tmp_path: Path, new: int) -> None:
    recipient = Recipient(tmp_path)
    recipient.take(_plan(5), people(100))
    got = recipient.take(_plan(5), people(100 + new))
    assert len(got) == (100 if new < 5 else 100 + new)
    assert (recipient.gains.classes, recipient.gains.persons) == ((1, new) if new < 5 else (0, 0))


@pytest.mark.parametrize("left", [1, 4, 5, 30])
def test_a_class_that_few_left_stays_away(tmp_path: Path, left: int) -> None:
    recipient = Recipient(tmp_path)
    recipient.take(_plan(5), [*people(100), *people(50, first=200, a=2)])
    got = recipient.take(_plan(5), [*people(100)[left:], *people(50, first=200, a=2)])
    assert len(got) == (50 if left < 5 else 150 - left)
    later = recipient.take(_plan(5), [*people(94), *people(50, first=200, a=2)])
    assert sum(row["a"] == 2 for row in later) == 50
    assert all(len(persons) >= 5 for persons in patterns(recipient.got).values())


def test_a_value_that_changed_is_a_row_that_left_and_one_that_came(tmp_path: Path) -> None:
    recipient = Recipient(tmp_path)
    recipient.take(_plan(5), people(100))
    assert recipient.take(_plan(5), [*people(1, s="cold"), *people(99, first=1)]) == []
    recipient.take(_plan(5), [*people(6, s="cold"), *people(94, first=6)])
    assert len(recipient.got[-1]) == 100


def test_one_more_copy_of_a_row_is_one_that_came(tmp_path: Path) -> None:
    recipient = Recipient(tmp_path)
    recipient.take(_plan(5), people(100))
    assert len(recipient.take(_plan(5), [*people(100), *people(1)])) == 100


def test_three_releases_isolate_nobody_that_two_do_not(tmp_path: Path) -> None:
    """Each pair differs by k or more, and yet (first - second) & (first - third) would be one person."""
    recipient, k = Recipient(tmp_path), 20
    recipient.take(_plan(k), people(200))
    recipient.take(_plan(k), people(175))
    recipient.take(_plan(k), [*people(155), *people(24, first=175)])
    first, second, third = ({row["id"] for row in rows} for rows in recipient.got)
    assert len(first - second) == 25
    assert len((first - second) & (first - third)) in (0, 25)


def test_a_pseudonym_joins_two_releases(tmp_path: Path) -> None:
    """Classes are large, before and after; two persons moved from one to the other."""
    recipient, k = Recipient(tmp_path), 5
    before = [*people(100), *people(100, first=100, a=2)]
    moved = [*people(2, a=2), *people(98, first=2), *people(100, first=100, a=2)]
    recipient.take(_plan(k, ("id",)), before)
    recipient.take(_plan(k, ("id",)), moved)
    assert all(len(persons) >= k for persons in histories(recipient.got, "id").values())
    assert {row["id"] for row in recipient.got[1]}.isdisjoint({"p0", "p1"})


def test_new_rows_of_few_wait_and_their_earlier_ones_do_not(tmp_path: Path) -> None:
    """Visits that are added: who has one in another class alone is served without it."""
    recipient, k = Recipient(tmp_path), 5
    recipient.take(_plan(k, ("id",)), people(100))
    got = recipient.take(_plan(k, ("id",)), [*people(100), *people(2, a=2), *people(50, first=50, a=3)])
    assert Counter(row["a"] for row in got) == {1: 100, 3: 50}


def test_under_another_agreement_pseudonyms_join_nothing_and_rows_are_still_subtracted(tmp_path: Path) -> None:
    recipient, plan = Recipient(tmp_path), _plan(5, ("id",))
    recipient.take(plan, people(100))
    got = recipient.take(msgspec.structs.replace(plan, agreement_digest="sha256:" + "9" * 64), people(103), OTHERS)
    assert len(got) == 100


def test_fewer_columns_do_not_hide_who_came(tmp_path: Path) -> None:
    """Another selection of fields with the same classes: whole rows differ all, persons do not."""
    recipient, plan = Recipient(tmp_path), _plan(5)
    recipient.take(plan, people(100))
    less = plans.plan({"a": (KEEP, INT64)}, quasi_identifiers=("a",), k=5)
    assert len(recipient.take(less, people(103))) == 100
    assert len(recipient.take(plan, people(104))) == 100
    assert len(recipient.take(less, people(105))) == 105


def test_what_is_to_be_gone_is_compared_with_no_more(tmp_path: Path) -> None:
    recipient = Recipient(tmp_path)
    recipient.take(_plan(5), people(100), days=2)
    assert len(recipient.take(_plan(5), people(102), days=9)) == 100
    recipient.now += 2 * DAY
    assert len(recipient.take(_plan(5), people(98), days=1)) == 0
    recipient.now += 9 * DAY
    assert len(recipient.take(_plan(5), people(97))) == 97
    (record,) = recipient.records.values()
    assert [sent.release for sent in record.sent] == ["rel-3"]


def test_a_bit_is_used_again_and_means_the_new_release_alone(tmp_path: Path) -> None:
    """70 releases of which two days' are kept: bits of old ones must not be taken for new ones'."""
    recipient = Recipient(tmp_path)
    for day in range(70):
        assert len(recipient.take(_plan(5), people(100, first=10 * day), days=2)) == 100
    (record,) = recipient.records.values()
    assert sent_records.words(record) == 1


def test_more_releases_than_one_column_tells(tmp_path: Path) -> None:
    recipient = Recipient(tmp_path)
    for day in range(67):
        assert len(recipient.take(_plan(5), people(100 + 10 * day), days=1000)) == 100 + 10 * day
    assert len(recipient.take(_plan(5), people(763), days=1000)) == 760
    (record,) = recipient.records.values()
    assert sent_records.words(record) == 2


def test_too_many_releases_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipient = Recipient(tmp_path)
    monkeypatch.setattr(sent_records, "MOST_RELEASES", 2)
    recipient.take(_plan(5), people(100))
    recipient.take(_plan(5), people(100))
    with pytest.raises(SluicegateError) as caught:
        recipient.take(_plan(5), people(100))
    assert caught.value.reason is Reason.REFRESH_PENDING


def test_the_same_release_again_is_compared_with_what_it_was_then(tmp_path: Path) -> None:
    recipient = Recipient(tmp_path)
    recipient.take(_plan(5), people(100))
    second = recipient.take(_plan(5), people(103))
    files = sorted(tmp_path.rglob("*"))
    assert recipient.take(_plan(5), people(103), name="rel-1") == second
    assert sorted(tmp_path.rglob("*")) == files


def test_under_another_key_nothing_is_taken_for_new(tmp_path: Path) -> None:
    recipient = Recipient(tmp_path)
    recipient.take(_plan(5), people(100))
    recipient.key = "cd" * 32
    with pytest.raises(SluicegateError) as caught:
        recipient.take(_plan(5), people(100))
    assert caught.value.reason is Reason.REFRESH_PENDING


def test_persons_of_whom_it_was_not_kept_what_told_them_apart_are_not_compared_with_others(tmp_path: Path) -> None:
    """As in records of the version before. Where classes and rows are made of the same, so are persons."""
    recipient = Recipient(tmp_path)
    recipient.take(_plan(5), people(100))
    recipient.records = {name: msgspec.structs.replace(one, entity="") for name, one in recipient.records.items()}
    with pytest.raises(SluicegateError) as caught:
        recipient.take(_plan(5, entity="house"), [{**row, "house": row["id"]} for row in people(100)])
    assert caught.value.reason is Reason.REFRESH_PENDING
    assert "told persons apart" in caught.value.message
    assert len(recipient.take(_plan(5), people(103))) == 100


@pytest.mark.parametrize("damage", ["gone", "cut", "other"])
def test_without_its_files_nothing_is_served(tmp_path: Path, damage: str) -> None:
    recipient = Recipient(tmp_path)
    recipient.take(_plan(5), people(100))
    file = tmp_path / "rel-0" / "rows.arrow"
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:600] if damage == "cut" else b"something else")
    with pytest.raises(SluicegateError) as caught:
        recipient.take(_plan(5), people(100))
    assert caught.value.reason is Reason.STATE_WRONG


def test_files_hold_digests_alone_and_are_private(tmp_path: Path) -> None:
    recipient = Recipient(tmp_path)
    recipient.take(_plan(5, ("id",)), people(100, s="a diagnosis that nobody else has"))
    files = list((tmp_path / "rel-0").iterdir())
    assert {file.name for file in files} == {"rows.arrow", "rows.groups.arrow"}
    for file in files:
        assert file.stat().st_mode & 0o777 == 0o600
        assert b"diagnosis" not in file.read_bytes()
    assert (tmp_path / "rel-0").stat().st_mode & 0o777 == 0o700


def kept(recipient: Recipient) -> pl.DataFrame:
    """What is remembered of the recipient's last release."""
    (record,) = recipient.records.values()
    return sent_records.kept(recipient.folder, "rows", record, record.sent).entries()


def test_the_same_rows_have_other_digests_for_another_recipient(tmp_path: Path) -> None:
    one, other = Recipient(tmp_path / "one"), Recipient(tmp_path / "other")
    other.key = "cd" * 32
    for recipient in (one, other):
        recipient.folder.mkdir()
        recipient.take(_plan(5), people(100))
    mine, theirs = (set(kept(each)[OF_ROW]) for each in (one, other))
    assert len(mine) == len(theirs) == 100
    assert not mine & theirs


@pytest.mark.parametrize("size", [1, 7, 400])
def test_digests_are_the_same_however_few_a_batch_has(size: int) -> None:
    plan = _plan(5, ("id",))
    table = [{"id": str(number), "a": number % 3, "s": "xyz"[number % 2], "b": 0, "house": ""} for number in range(400)]
    digests = SentDigests(plan, classing.layout(plan), "ab" * 32)
    lazy = pl.DataFrame(table, schema=SCHEMA).lazy()
    frame = classing.with_hashes(lazy, plan, SECRETS, digests.places, KEY, beside=digests.beside(), person=PERSON)
    hashed = frame.collect()

    def added(rows: int) -> pl.DataFrame:
        adding = digests.adding()
        return pl.concat(adding.added(hashed.slice(start, rows)) for start in range(0, 400, rows))

    def folded(rows: int) -> pl.DataFrame:
        alike = Alike(digests.places.row, classing.alike(plan), digests.of_classes)
        adding, found = digests.adding(alike), list[pl.DataFrame]()
        for start in range(0, 400, rows):
            batch = adding.added(alike.folded(hashed.slice(start, rows)).batch)
            found.append(batch.with_columns(classes) if (classes := alike.of(batch, CLASS)) is not None else batch)
        return pl.concat(batch.select(digests.columns) for batch in found)

    alone = pl.concat(digests.adding().added(hashed[index : index + 1]) for index in range(400))  # nothing is known yet
    assert added(size).equals(alone)
    assert folded(size).equals(alone.select(digests.columns))
    assert alone[CLASS].n_unique() == 3
    assert alone[OF_ROW].n_unique() == 400


def test_dataclass_of_a_comparison_shows_no_key(tmp_path: Path) -> None:
    recipient = Recipient(tmp_path)
    recipient.take(_plan(5), people(100))
    assert recipient.key not in repr(recipient.gains) + repr(recipient.gains.earlier)
    assert dataclasses.is_dataclass(recipient.gains)
