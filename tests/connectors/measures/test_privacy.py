"""Bounds: against a plain count over Python sets, in every way of counting."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.keys import AgreementSecrets
from connectors.measures import classing, privacy
from connectors.measures.classing import Layout
from connectors.measures.composite import Joined
from connectors.measures.privacy import Measure, Verdict
from connectors.spooling.order import ReleaseKey
from contracts.dtypes import DATE, INT64, STRING
from contracts.errors import Reason, SluicegateError
from contracts.plan import Plan
from tests.connectors import plans

KEY = ReleaseKey(b"s" * 32, "rel-a")
SECRETS = AgreementSecrets(b"k" * 32, "sha256:a")
Row = dict[str, Any]
KEEP = {"mask": "keep"}
HMAC = {"mask": "hmac", "domain": "person"}


def _plan(k: int, l: int, pseudonyms: tuple[str, ...]) -> Plan:  # noqa: E741
    fields = {"a": (KEEP, INT64), "b": (KEEP, STRING), "s": (KEEP, STRING)}
    masks = {name: (HMAC if name in pseudonyms else KEEP, STRING) for name in ("id", "house")}
    sent = {**fields, **{name: masks[name] for name in pseudonyms}}
    return plans.plan(sent, quasi_identifiers=("a", "b"), sensitive={"s": l} if l else {}, pseudonyms=pseudonyms, k=k)


def _hashed(plan: Plan, rows: list[Row], size: int) -> tuple[Layout, Callable[[], list[pl.DataFrame]]]:
    schema = {"id": pl.String, "house": pl.String, "a": pl.Int64, "b": pl.String, "s": pl.String}
    places = classing.layout(plan)
    frame = classing.with_hashes(pl.DataFrame(rows, schema=schema).lazy(), plan, SECRETS, places, KEY).collect()
    pieces = [frame.slice(start, size).select(places.columns) for start in range(0, frame.height, size)]
    return places, lambda: pieces


def _plainly(plan: Plan, rows: list[Row]) -> tuple[list[bool], int, int]:
    """Which rows stay, the lowest k and l then: the definition, over sets. `id` stands for the entity."""
    groupings: list[str | None] = [None] if "id" not in plan.pseudonyms else []
    groupings += list(plan.pseudonyms)
    alive = [True] * len(rows)

    def classes(by: str | None) -> list[Any]:
        joined: dict[Any, set[Any]] = defaultdict(set)
        unit = [(i if by is None or row[by] is None else row[by]) for i, row in enumerate(rows)]
        for i, row in enumerate(rows):
            if alive[i]:
                joined[unit[i]].add((row["a"], row["b"]))
        return [frozenset(joined[unit[i]]) for i in range(len(rows))]

    def counts(found: list[Any], column: str) -> dict[Any, int]:
        items: dict[Any, set[Any]] = defaultdict(set)
        for i, row in enumerate(rows):
            if alive[i]:
                items[found[i]] |= {row[column]} - {None}
        return {one: len(group) for one, group in items.items()}

    while True:
        goes: set[int] = set()
        for by in groupings:
            found = classes(by)
            k, l = counts(found, "id"), counts(found, "s")  # noqa: E741
            goes |= {
                i
                for i in range(len(rows))
                if alive[i] and (k[found[i]] < (plan.k or 0) or l[found[i]] < plan.sensitive.get("s", 0))
            }
        if not goes:
            break
        for i in goes:
            alive[i] = False
    lowest_k = min((min(counts(classes(by), "id").values(), default=0) for by in groupings), default=0)
    lowest_l = min((min(counts(classes(by), "s").values(), default=0) for by in groupings), default=0)
    return alive, lowest_k, lowest_l


def _alive(verdict: Verdict, batches: list[pl.DataFrame]) -> list[bool]:
    return [
        flag
        for batch, mask in zip(batches, verdict.alive, strict=True)
        for flag in ([True] * batch.height if mask is None else mask.to_list())
    ]


ROW = st.fixed_dictionaries(
    {
        "id": st.sampled_from([f"p{i}" for i in range(7)]),
        "house": st.none() | st.sampled_from(["h1", "h2"]),
        "a": st.none() | st.integers(0, 2),
        "b": st.none() | st.sampled_from(["x", "y"]),
        "s": st.none() | st.sampled_from(["flu", "cold"]),
    }
)


@settings(max_examples=120, deadline=None)
@given(
    rows=st.lists(ROW, min_size=1, max_size=40),
    k=st.integers(1, 4),
    l=st.integers(0, 2),
    pseudonyms=st.sampled_from([(), ("id",), ("house",)]),
    size=st.integers(1, 50),
    exact=st.booleans(),
    budget=st.sampled_from([3, 10, 1000]),
)
def test_it_is_what_the_definition_says_however_it_is_counted(
    rows: list[Row],
    k: int,
    l: int,  # noqa: E741
    pseudonyms: tuple[str, ...],
    size: int,
    exact: bool,
    budget: int,
) -> None:
    plan = _plan(k, l, pseudonyms)
    places, batches = _hashed(plan, rows, size)
    verdict = Measure(batches, places, k, plan.sensitive, exact, budget).run(most_suppressed=2.0)
    stays, lowest_k, lowest_l = _plainly(plan, rows)
    assert _alive(verdict, batches()) == stays
    assert verdict.rows_in == len(rows)
    assert verdict.rows_suppressed == stays.count(False)
    assert verdict.met("n") == (lowest_k if exact else min(lowest_k, k))
    if l:
        assert verdict.met("#value.s") == (lowest_l if exact else min(lowest_l, l))


def test_a_household_joined_by_a_pseudonym_does_not_hide_one_of_it() -> None:
    rows = [{"id": f"p{i}", "house": "h", "a": 1, "b": "x", "s": "flu"} for i in range(20)]
    rows.append({"id": "alone", "house": "h", "a": 99, "b": "x", "s": "flu"})
    plan = _plan(3, 0, ("house",))
    places, batches = _hashed(plan, rows, 100)
    verdict = Measure(batches, places, 3, {}, exact=True).run(most_suppressed=2.0)
    assert _alive(verdict, batches()) == [True] * 20 + [False]


def test_visits_joined_by_a_pseudonym_are_judged_together() -> None:
    """Every tuple has ten persons, but only one person has just these two."""
    rows = [{"id": f"p{i}", "house": None, "a": i % 2, "b": "x", "s": None} for i in range(20)]
    rows.append({"id": "p0", "house": None, "a": 1, "b": "x", "s": None})
    joined, apart = _plan(5, 0, ("id",)), _plan(5, 0, ())
    for plan, expected in ((joined, 2), (apart, 0)):
        places, batches = _hashed(plan, rows, 7)
        verdict = Measure(batches, places, 5, {}, exact=True).run(most_suppressed=2.0)
        assert verdict.rows_suppressed == expected


@pytest.mark.parametrize("exact", [True, False])
def test_a_household_that_lost_a_row_is_judged_anew(exact: bool) -> None:
    """First a tuple of one person and two sets of one person go, tuple and sets apart; then what is left of the
    first household is alone, and with it gone, so is what one person has of the second."""
    has = [("p1", "h1", 3), ("p2", "h1", 1), ("p3", "h2", 1), ("p4", "h2", 2), ("p5", "h2", 2)]
    has += [("p9", None, 4), ("p10", "h3", 4), ("p10", "h3", 2)]
    rows = [{"id": id, "house": house, "a": a, "b": "x", "s": None} for id, house, a in has]
    plan = _plan(2, 0, ("house",))
    places, batches = _hashed(plan, rows, 3)
    verdict = Measure(batches, places, 2, {}, exact=exact).run(most_suppressed=2.0)
    assert _alive(verdict, batches()) == _plainly(plan, rows)[0]
    assert _alive(verdict, batches()) == [False, False, False, True, True, False, False, False]


def test_units_kept_from_counting_are_those_of_every_slice() -> None:
    """Four households of five rows a tuple, so that they are counted in slices and yet few enough to be kept: two are
    alone with what they have."""
    tuples = {"h1": (1, 2), "h2": (1, 2), "h3": (1,), "h4": (2,)}
    rows = [
        {"id": f"p-{house}", "house": house, "a": a, "b": "x", "s": None}
        for house, of in tuples.items()
        for a in of
        for _ in range(5)
    ]
    plan = _plan(2, 0, ("house",))
    places, batches = _hashed(plan, rows, 100)
    for budget in (8, 12, 16):
        verdict = Measure(batches, places, 2, {}, exact=False, budget=budget).run(most_suppressed=2.0)
        assert _alive(verdict, batches()) == [row["house"] in ("h1", "h2") for row in rows]


@pytest.mark.parametrize("value", [None, "", "  ", "\u3000"])
def test_a_null_or_empty_entity_is_refused(value: str | None) -> None:
    rows = [
        {"id": "p1", "house": None, "a": 1, "b": "x", "s": None},
        {"id": value, "house": None, "a": 1, "b": "x", "s": None},
    ]
    for pseudonyms in ((), ("id",)):
        plan = _plan(1, 0, pseudonyms)
        places, batches = _hashed(plan, rows, 1)
        with pytest.raises(SluicegateError) as caught:
            Measure(batches, places, 1, {}, exact=True).run(most_suppressed=2.0)
        assert caught.value.reason is Reason.DATA_INVALID


def test_spellings_of_one_entity_count_once() -> None:
    rows = [{"id": name, "house": None, "a": 1, "b": "x", "s": None} for name in ("ab", " AB ", "ａｂ", "aB")]
    for pseudonyms in ((), ("id",)):
        places, batches = _hashed(_plan(2, 0, pseudonyms), rows, 9)
        assert Measure(batches, places, 2, {}, exact=True).run(most_suppressed=2.0).rows_suppressed == 4


def test_the_entity_is_nowhere_in_what_is_spooled() -> None:
    rows = [{"id": "very-secret", "house": None, "a": 1, "b": "x", "s": "flu"}]
    _, batches = _hashed(_plan(2, 2, ()), rows, 9)
    assert all(dtype == pl.UInt64 for dtype in batches()[0].dtypes)


def test_persons_without_quasi_identifiers_are_refused() -> None:
    with pytest.raises(SluicegateError) as caught:
        classing.layout(plans.plan({"s": (KEEP, STRING)}))
    assert caught.value.reason is Reason.PLAN_REFUSED


def test_a_million_tuples_have_a_million_hashes() -> None:
    frame = pl.DataFrame({"a": pl.int_range(0, 1_000_000, eager=True)}).with_columns(
        b=pl.col("a") % 1000, c=pl.col("a") // 1000
    )
    for fields in (["a"], ["b", "c"], ["c", "b"]):
        assert frame.select(classing.tuple_hash(fields, KEY).n_unique()).item() == 1_000_000
    swapped = pl.DataFrame({"a": ["x", "y"], "b": ["y", "x"]}).select(classing.tuple_hash(["a", "b"], KEY).n_unique())
    assert swapped.item() == 2


def test_sets_of_tuples_do_not_meet() -> None:
    """Sums of hashes: of all 2 to 4 element sets of 24 tuples no two are equal."""
    from itertools import combinations

    hashes = pl.DataFrame({"a": range(24)}).select(classing.tuple_hash(["a"], KEY).alias("h"))["h"].to_list()
    sums = [sum(chosen) % 2**64 for size in (1, 2, 3, 4) for chosen in combinations(hashes, size)]
    assert len(set(sums)) == len(sums) == sum(math.comb(24, size) for size in (1, 2, 3, 4))


def test_the_commitment_opens_and_binds() -> None:
    rows = [{"id": f"p{i}", "house": None, "a": i % 3, "b": "x", "s": None} for i in range(9)]
    plan = _plan(2, 0, ())
    places, batches = _hashed(plan, rows, 4)
    verdict = Measure(batches, places, 2, {}, exact=True).run(most_suppressed=0.0)
    opening = privacy.opening(verdict, b"s" * 32)
    bounds = privacy.bounds(plan, places, verdict, opening, loss=None)
    assert bounds.class_commitment == "sha256:" + hashlib.sha256(opening).hexdigest()
    assert (bounds.k_met, bounds.classes, bounds.at_least, bounds.composite) == (3, 3, False, False)
    assert opening[:32] == b"s" * 32
    assert int.from_bytes(opening[32:40], "little") == 3
    assert [int.from_bytes(opening[64 + 4 * i : 68 + 4 * i], "little") for i in range(3)] == [3, 3, 3]
    assert privacy.opening(verdict, b"t" * 32) != opening
    assert len(opening) == 32 + 8 + 3 * 12


def test_it_stops_early_when_more_would_go_than_may() -> None:
    rows = [{"id": f"p{i}", "house": None, "a": i, "b": "x", "s": None} for i in range(9)]
    places, batches = _hashed(_plan(2, 0, ()), rows, 4)
    verdict = Measure(batches, places, 2, {}, exact=False).run(most_suppressed=0.5)
    assert verdict.share == 1.0
    assert verdict.failing == 9
    assert verdict.lowest_k == 1


# --- how values are spread


def _spread_plainly(rows: list[Row], k: int, t: float | None, entropy: float | None, pseudonym: bool) -> list[bool]:
    """Which rows stay: k to its fixed point, then spread against what that leaves, and again."""
    alive = set(range(len(rows)))

    def classes() -> dict[Any, list[int]]:
        unit = {i: rows[i]["id"] if pseudonym else i for i in alive}
        tuples: dict[Any, set[Any]] = defaultdict(set)
        for i in alive:
            tuples[unit[i]].add((rows[i]["a"], rows[i]["b"]))
        found: dict[Any, list[int]] = defaultdict(list)
        for i in sorted(alive):
            found[frozenset(tuples[unit[i]])].append(i)
        return found

    def far(members: list[int]) -> bool:
        def share(among: list[int], value: object) -> float:
            return sum(rows[i]["s"] == value for i in among) / len(among)

        values = {rows[i]["s"] for i in alive}
        distance = sum(abs(share(members, value) - share(sorted(alive), value)) for value in values) / 2
        held = [i for i in members if rows[i]["s"] is not None]
        shares = [share(held, value) for value in {rows[i]["s"] for i in held}]
        evenness = math.exp(-sum(part * math.log(part) for part in shares))
        return (t is not None and distance > t + 1e-9) or (entropy is not None and evenness < entropy - 1e-9)

    while alive:
        small = [i for members in classes().values() if len({rows[i]["id"] for i in members}) < k for i in members]
        goes = small or [i for members in classes().values() if far(members) for i in members]
        if not goes:
            break
        alive -= set(goes)
    return [i in alive for i in range(len(rows))]


@settings(max_examples=120, deadline=None)
@given(
    rows=st.lists(ROW, min_size=1, max_size=40),
    k=st.integers(1, 3),
    t=st.none() | st.sampled_from([0.1, 0.3, 0.5]),
    entropy=st.none() | st.sampled_from([1.2, 1.9]),
    pseudonym=st.booleans(),
    size=st.integers(1, 50),
    budget=st.sampled_from([3, 20, 1000]),
)
def test_spread_is_judged_on_what_k_leaves_however_it_is_counted(
    rows: list[Row], k: int, t: float | None, entropy: float | None, pseudonym: bool, size: int, budget: int
) -> None:
    plan = msgspec.structs.replace(
        _plan(k, 0, ("id",) if pseudonym else ()),
        t={} if t is None else {"s": t},
        entropy={} if entropy is None else {"s": entropy},
    )
    places, batches = _hashed(plan, rows, size)
    for exact in (True, False):
        verdict = Measure(batches, places, k, {}, exact, budget).run(most_suppressed=2.0)
        stays = _spread_plainly(rows, k, t, entropy, pseudonym)
        assert _alive(verdict, batches()) == stays
        if any(stays) and (t is not None or entropy is not None):
            found = verdict.spread["s"]
            assert t is None or found.variational <= t + 1e-9
            assert entropy is None or found.entropy >= entropy - 1e-9


def test_rows_are_joined_once_for_k_for_suppression_and_for_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two persons each of six classes, one of a seventh, who goes."""
    joined = list[Joined]()

    def counted(*words: Any) -> Joined:
        joined.append(Joined(*words))
        return joined[-1]

    monkeypatch.setattr(privacy, "Joined", counted)
    rows = [{"id": f"p{i}", "house": None, "a": i // 2, "b": "x", "s": "abc"[i % 3]} for i in range(13)]
    plan = msgspec.structs.replace(_plan(2, 0, ("id",)), t={"s": 1.0})
    places, batches = _hashed(plan, rows, 4)
    verdict = Measure(batches, places, 2, {}, exact=False).run(most_suppressed=1.0)
    assert verdict.rows_suppressed == 1
    assert len(joined) == 1
    assert verdict.spread["s"].variational == pytest.approx(1 / 3)  # of the seventh it would be 2/3


def test_an_ordered_field_is_measured_by_its_values_and_another_by_hashes() -> None:
    plan = msgspec.structs.replace(_plan(2, 0, ()), t={"a": 0.5, "s": 0.5})
    places = classing.layout(plan)
    assert places.columns == ("#row", "#entity", "a", "#value.s")
    assert places.hashes == (("s", "#value.s"),)


NOISE = {"mask": "noise", "distribution": "laplace", "scale": 50}


@pytest.mark.parametrize("base", [{}, {"base": 10}])
def test_chance_neither_makes_classes_smaller_nor_values_more_various(base: dict[str, int]) -> None:
    """Ten people of one age in one district, all with the same income: a class of ten that tells the income."""
    rows = [{"id": f"p{number}", "a": 40, "b": "x", "income": 5000} for number in range(10)]
    frame = pl.DataFrame(rows).lazy()
    fields = {"a": ({**NOISE, **base}, INT64), "b": (KEEP, STRING), "income": ({**NOISE, **base}, INT64)}
    plan = plans.plan(fields, quasi_identifiers=("a", "b"), sensitive={"income": 2}, k=10)
    places = classing.layout(plan)
    hashed = classing.with_hashes(frame, plan, SECRETS, places, KEY, tuples={"#without.b": ("a",)}).collect()
    assert set(hashed.columns) == {"a", "b", "income", "#without.b", *places.columns}
    assert hashed["a"].n_unique() > 5, "noise was added"
    assert hashed["income"].n_unique() > 5
    assert hashed["#without.b"].n_unique() == 1
    verdict = Measure(batches=lambda: [hashed], places=places, k=10, l={"income": 2}, exact=True).run(most_suppressed=2)
    assert verdict.lowest_k == 10, "noise split no class"
    assert verdict.lowest_l == {"income": 1}, "noise passed for no variety"


def test_a_shifted_date_is_counted_where_it_was() -> None:
    days = [dt.date(2026, 1, 1)] * 6
    frame = pl.DataFrame({"id": [f"p{number}" for number in range(6)], "day": days}).lazy()
    shift = {"mask": "shift_date", "days": 365, "entity": "id"}
    plan = plans.plan({"day": (shift, DATE)}, quasi_identifiers=("day",), k=6)
    places = classing.layout(plan)
    hashed = classing.with_hashes(frame, plan, SECRETS, places, KEY).collect()
    assert hashed["day"].n_unique() > 3
    assert hashed[places.row].n_unique() == 1
