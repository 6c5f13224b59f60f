"""The figures of effectiveness: against their definitions, against pyCANON's, against SQL."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.keys import AgreementSecrets
from connectors.measures import classing, effectiveness, privacy
from connectors.measures.population import Population
from connectors.measures.privacy import Measure, Verdict
from connectors.releases import release
from connectors.spooling.order import ReleaseKey
from contracts.dtypes import INT64, STRING, DType
from contracts.errors import Reason, SluicegateError
from contracts.model import Identifiability, SharingModel
from contracts.plan import Plan
from contracts.receipt import Certificate
from contracts.techniques import Keep
from tests import adult as census
from tests.connectors import plans
from tests.connectors.held import Held

KEY = ReleaseKey(b"s" * 32, "rel-a")
SECRETS = AgreementSecrets(b"k" * 32, "sha256:a")
KEEP = {"mask": "keep"}
HMAC = {"mask": "hmac", "domain": "person"}
Row = dict[str, Any]


def _judged(plan: Plan, frame: pl.DataFrame, *, exact: bool = True, size: int = 10_000) -> tuple[Verdict, Certificate]:
    places = classing.layout(plan, every=True)
    hashed = classing.with_hashes(frame.lazy(), plan, SECRETS, places, KEY).collect().select(places.columns)
    pieces = [hashed.slice(start, size) for start in range(0, hashed.height, size)]
    verdict = Measure(lambda: pieces, places, plan.k or 0, plan.sensitive, exact).run(most_suppressed=2.0)
    return verdict, privacy.certificate(plan, verdict)


ROW = st.fixed_dictionaries(
    {
        "id": st.sampled_from([f"p{i}" for i in range(9)]),
        "a": st.none() | st.integers(0, 2),
        "s": st.none() | st.integers(0, 3),
    }
)


@settings(max_examples=120, deadline=None)
@given(
    rows=st.lists(ROW, min_size=1, max_size=40),
    k=st.integers(1, 4),
    model=st.sampled_from(SharingModel),
    pseudonym=st.booleans(),
)
def test_every_figure_is_what_its_definition_says(
    rows: list[Row], k: int, model: SharingModel, pseudonym: bool
) -> None:
    fields = {"a": (KEEP, INT64), "s": (KEEP, INT64), **({"id": (HMAC, STRING)} if pseudonym else {})}
    tau = {SharingModel.PUBLIC: 1 / 20, SharingModel.CONTROLLED: 1 / 5, SharingModel.ENCLAVE: 1 / 3}[model]
    pseudonyms = ("id",) if pseudonym else ()
    plan = plans.plan(fields, quasi_identifiers=("a",), pseudonyms=pseudonyms, k=k, sharing_model=model, tau=tau)
    schema = {"id": pl.String, "a": pl.Int64, "s": pl.Int64}
    verdict, found = _judged(plan, pl.DataFrame(rows, schema=schema), size=7)

    alive = list(rows)
    while True:
        sets = defaultdict(set)
        for index, row in enumerate(alive):
            sets[row["id"] if pseudonym else index].add(row["a"])
        members = defaultdict(set)
        for index, row in enumerate(alive):
            members[frozenset(sets[row["id"] if pseudonym else index])].add(row["id"])
        kept = [
            row
            for index, row in enumerate(alive)
            if len(members[frozenset(sets[row["id"] if pseudonym else index])]) >= k
        ]
        if len(kept) == len(alive):
            break
        alive = kept
    sizes = [len(group) for group in members.values()]
    risks = [1 / size for size in sizes]
    dr_a = sum(risk > tau + 1e-9 for risk in risks) / len(risks) if risks else 0.0
    dr_b, dr_c = max(risks, default=0.0), sum(risks) / len(risks) if risks else 0.0
    overall = 1.0 if dr_a else dr_b if model is SharingModel.PUBLIC else dr_c
    assert (found.dr_a, found.dr_b, found.dr_c) == pytest.approx((dr_a, dr_b, dr_c))
    assert found.risk == pytest.approx(overall)
    assert found.level == (3 if overall <= 0.05 else 2)
    assert found.prosecutor_risk == found.dr_b
    assert found.marketer_risk == pytest.approx(len(sizes) / sum(sizes) if sizes else 0.0)
    assert found.average_class == pytest.approx(sum(sizes) / len(sizes) if sizes else 0.0)
    assert found.uniques == pytest.approx(sizes.count(1) / sum(sizes) if sizes else 0.0)
    gone = len(rows) - len(alive)
    assert found.suppressed == pytest.approx(gone / len(rows))
    squares = sum(size * size for size in sizes) + gone * len(rows)
    assert found.discernibility == pytest.approx(squares / len(rows))
    assert found.journalist_risk is None
    assert verdict.rows_suppressed == gone


def test_counting_that_stopped_gives_upper_limits_of_risk() -> None:
    frame = pl.DataFrame({"id": [f"p{i}" for i in range(100)], "a": [i % 2 for i in range(100)]})
    plan = plans.plan({"a": (KEEP, INT64)}, quasi_identifiers=("a",), k=5)
    counted, stopped = _judged(plan, frame)[1], _judged(plan, frame, exact=False)[1]
    assert (counted.dr_c, counted.level, counted.average_class, counted.discernibility) == (0.02, 3, 50.0, 50.0)
    assert (stopped.dr_c, stopped.level, stopped.average_class, stopped.discernibility) == (0.2, 2, 5.0, None)


def test_the_worst_grouping_counts() -> None:
    """A household's pseudonym: single rows are in classes of ten, the two households alone in theirs."""
    tables = [pl.DataFrame({"n": [10, 10]}), pl.DataFrame({"n": [4, 8]})]
    assert effectiveness.highest(tables) == 0.25
    assert effectiveness.mean(tables) == pytest.approx(3 / 16)
    assert effectiveness.above(tables, 1 / 5) == 0.5
    assert effectiveness.marketer(tables) == pytest.approx(1 / 6)


def test_a_direct_identifier_that_leaves_as_it_is_makes_level_1() -> None:
    import msgspec

    plan = plans.plan({"a": (KEEP, INT64)}, quasi_identifiers=("a",), k=2)
    named = msgspec.structs.replace(
        plan, fields=tuple(msgspec.structs.replace(f, identifiability=Identifiability.DIRECT) for f in plan.fields)
    )
    frame = pl.DataFrame({"id": [f"p{i}" for i in range(100)], "a": [1] * 100})
    assert _judged(plan, frame)[1].level == 3
    assert _judged(named, frame)[1].level == 1


def test_a_register_larger_than_the_release_lowers_the_risk() -> None:
    released = pl.DataFrame({"class": [1, 2, 3], "n": [5, 2, 7]})
    register = pl.DataFrame({"class": [1, 2, 9], "n": [50, 8, 1]})
    assert effectiveness.journalist(released, register) == 1 / 7  # nobody of class 3 is in the register
    assert effectiveness.journalist(released.clear(), register) == 0.0


# --- the Adult census extract

SENSITIVE = ("income", "hours-per-week", "workclass", "education-num")
# pyCANON 1.3.6 (with numpy 2.0.2, pandas 2.3.3, in an environment of its own) on these 32,561 records: k; then
# for each sensitive attribute l, the whole part of entropy l, t. `decade` is age // 10 * 10.
PYCANON: dict[tuple[str, ...], tuple[int, dict[str, tuple[int, int, float]]]] = {
    ("decade", "sex"): (
        14,
        {
            "income": (1, 1, 0.2408095574460244),
            "hours-per-week": (6, 3, 0.21463731321383128),
            "workclass": (2, 1, 0.5164864351467958),
            "education-num": (7, 4, 0.14210364173314835),
        },
    ),
    ("race", "sex"): (
        109,
        {
            "income": (2, 1, 0.18576368588639136),
            "hours-per-week": (23, 6, 0.049617546210691386),
            "workclass": (5, 2, 0.21334875278694754),
            "education-num": (13, 6, 0.08610245056982632),
        },
    ),
    ("twenty", "race", "sex"): (
        1,
        {
            "income": (1, 1, 0.2571328293852513),
            "hours-per-week": (1, 1, 0.4019608523026927),
            "workclass": (1, 1, 0.9436135253831271),
            "education-num": (1, 1, 0.35204528935434004),
        },
    ),
    ("marital-status", "sex"): (
        9,
        {
            "income": (2, 1, 0.2142296700735894),
            "hours-per-week": (7, 4, 0.16612466402092024),
            "workclass": (3, 2, 0.23140961799172538),
            "education-num": (4, 3, 0.08068274310131957),
        },
    ),
}


SIX = ("age", "education", "occupation", "relationship", "sex", "native-country")  # pyCANON's own example


@pytest.fixture(scope="module")
def adult(corpora: Path) -> pl.DataFrame:
    found = census.read(corpora)
    return found.with_columns(pl.col("hours-per-week", "education-num").cast(pl.Int64)).with_columns(
        decade=pl.col("age") // 10 * 10, twenty=pl.col("age") // 20 * 20
    )


def _plan(frame: pl.DataFrame, quasi: tuple[str, ...]) -> Plan:
    types = {name: INT64 if frame.schema[name] == pl.Int64 else STRING for name in (*quasi, *SENSITIVE)}
    fields = {name: (KEEP, dtype) for name, dtype in types.items()}
    return plans.plan(fields, quasi_identifiers=quasi, sensitive=dict.fromkeys(SENSITIVE, 0), k=1)


@pytest.mark.parametrize("quasi", PYCANON, ids=" ".join)
def test_pycanon_says_the_same_of_the_census(adult: pl.DataFrame, quasi: tuple[str, ...]) -> None:
    k, expected = PYCANON[quasi]
    verdict, found = _judged(_plan(adult, quasi), adult)
    assert verdict.lowest_k == k
    for name, (l, entropy, t) in expected.items():  # noqa: E741
        measured = found.spread[name]
        assert verdict.lowest_l[name] == l
        assert int(measured.entropy + 1e-9) == entropy
        assert (measured.variational if measured.ordered is None else measured.ordered) == pytest.approx(t, abs=1e-9)


@pytest.mark.parametrize("quasi", [*PYCANON, SIX])
def test_sql_says_the_same_of_the_census(adult: pl.DataFrame, quasi: tuple[str, ...]) -> None:
    names = ", ".join(f'"{name}"' for name in quasi)
    with duckdb.connect() as sql:
        sql.register("adult", adult.to_arrow())
        sizes = f"select count(distinct id) as n from adult group by {names}"
        row = sql.execute(
            f"select max(1/n), avg(1/n), avg((1/n > 0.2 + 1e-9)::int), count(*)/sum(n), sum((n=1)::int)/sum(n), "
            f"sum(n*n)/sum(n) from ({sizes})"
        ).fetchone()
        assert row is not None
        _, found = _judged(_plan(adult, quasi), adult)
        figures = (found.dr_b, found.dr_c, found.dr_a, found.marketer_risk, found.uniques, found.discernibility)
        assert figures == pytest.approx(tuple(map(float, row)))
        distance = sql.execute(
            f"with pairs as (select {names}, income, count(*) as c from adult group by all), "
            f"shares as (select *, c / sum(c) over (partition by {names}) as p from pairs), "
            "every as (select income, count(*) / (select count(*) from adult) as q from adult group by 1) "
            "select max(d) from (select sum(greatest(p - q, 0)) as d from shares join every using (income) "
            f"group by {names})"
        ).fetchone()
        assert distance is not None
        assert found.spread["income"].variational == pytest.approx(float(distance[0]))
    if quasi == SIX:
        assert f"{found.uniques:.1%}" == "31.2%"


# --- a register


def test_people_of_a_release_are_looked_up_in_a_register(tmp_path: Path) -> None:
    """Of the columns that the register has, under their masks: each class of the release is as large as there."""
    frame = pl.DataFrame(
        {
            "id": [f"p{n}" for n in range(60)],
            "age": [20 + n % 3 * 10 + n % 7 for n in range(60)],
            "ward": ["north" if n % 5 else "south" for n in range(60)],
            "when": ["spring" if n % 2 else "autumn" for n in range(60)],
        }
    )
    population = pl.DataFrame(
        {"id": [f"q{n}" for n in range(900)], "age": [15 + n % 60 for n in range(900)], "ward": ["north"] * 900}
    )
    fields = {"age": ({"mask": "bucket", "size": 10}, INT64), "ward": (KEEP, STRING), "when": (KEEP, STRING)}
    plan = plans.plan(
        fields, quasi_identifiers=("age", "ward", "when"), k=2, max_suppression=0.5, on_violation="suppress"
    )
    masks = {field.name: field.technique for field in plan.fields}
    register = Population.of(Held(population), plan, masks, "id")
    assert register.columns == ("age", "ward")
    options: dict[str, Any] = {"release_id": "rel-aaaaaaaaaa", "clock": lambda: 1_770_000_000}
    made = release.make(plan, Held(frame), SECRETS, spool=tmp_path / "rel", population=register, **options)
    assert made.bounds is not None
    assert made.bounds.certificate is not None
    by = [(age // 10 * 10, ward) for age, ward in zip(frame["age"], frame["ward"], strict=True)]
    there = Counter((age // 10 * 10, "north") for age in population["age"])
    smallest = min(max(count, there[cell]) for cell, count in Counter(by).items())
    assert made.bounds.certificate.journalist_risk == pytest.approx(1 / smallest)
    assert made.bounds.certificate.journalist_risk < made.bounds.certificate.dr_b
    assert made.bounds.certificate.register_columns == ("age", "ward")
    alone = release.make(plan, Held(frame), SECRETS, spool=tmp_path / "alone", **options)
    assert alone.bounds is not None
    assert alone.bounds == msgspec.structs.replace(
        made.bounds,
        certificate=msgspec.structs.replace(made.bounds.certificate, journalist_risk=None, register_columns=()),
    )


@pytest.mark.parametrize(("columns", "says"), [(["age", "ward"], "needs the column id"), (["id"], "no column that")])
def test_a_register_that_finds_nobody_is_refused(columns: list[str], says: str) -> None:
    plan = plans.plan({"age": (KEEP, INT64)}, quasi_identifiers=("age",))
    people = pl.DataFrame({"id": ["a"], "age": [1], "ward": ["north"]}).select(columns)
    with pytest.raises(SluicegateError) as caught:
        Population.of(Held(people), plan, {"age": Keep()}, "id")
    assert caught.value.reason is Reason.DATA_INVALID
    assert says in caught.value.message


def test_a_register_of_other_types_is_refused() -> None:
    """Else it would be matched by fewer columns than its department thinks, and find fewer people."""
    bucket: tuple[dict[str, Any], DType] = ({"mask": "bucket", "size": 10}, INT64)
    plan = plans.plan({"age": bucket, "ward": (KEEP, STRING)}, quasi_identifiers=("age", "ward"))
    people = pl.DataFrame({"id": ["a"], "age": ["1"], "ward": ["north"]})
    with pytest.raises(SluicegateError, match="column age is not as the dataset's"):
        Population.of(Held(people), plan, {field.name: field.technique for field in plan.fields}, "id")
