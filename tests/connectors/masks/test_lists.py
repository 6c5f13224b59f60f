"""Lists of texts: masked element by element or as one value, and all the way through a release."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.dictionaries import written_out
from connectors.keys import AgreementSecrets
from connectors.masks.masking import masked
from connectors.masks.reversible import turned_back
from connectors.measures import classing
from connectors.releases import release
from connectors.releases.rehearsal import dry_run
from connectors.spooling.order import ReleaseKey
from contracts.dtypes import DATE, INT64, LIST, STRING
from contracts.errors import Reason, SluicegateError
from contracts.techniques import ALL, AesSiv, parse
from tests.connectors import plans
from tests.connectors.held import Held

SECRETS = AgreementSecrets(b"k" * 32, "sha256:a")
Lists = list[list[str | None] | None]
REVERSIBLE = {"legal_basis": "dpv:LegalObligation"}
EACH: list[dict[str, Any]] = [
    {"mask": "partial", "keep_first": 1, "min_masked": 1},
    {"mask": "regex", "pattern": "[0-9]+", "replacement": "#", "min_masked": 1},
    {"mask": "hmac", "domain": "person"},
    {"mask": "hmac", "domain": "person", "normalise": "exact"},
    {"mask": "prefix", "length": 2},
    {"mask": "hierarchy", "table": {"a1": ["a"], "b": ["letters"]}},
    {"mask": "redact", "dictionaries": {"ward": ["east wing"]}},
    {"mask": "ip_prefix"},
    {"mask": "aes_siv", "domain": "person", **REVERSIBLE},
    {"mask": "ff1", "domain": "card", "unsafe_format_preserving": True, **REVERSIBLE},
]
WHOLE: list[dict[str, Any]] = [
    {"mask": "keep"},
    {"mask": "null"},
    {"mask": "constant", "value": "x"},
    {"mask": "random_id"},
    {"mask": "shuffle", "least": 2},
]
TEXTS = st.text(max_size=6) | st.sampled_from(["a1", "b", "east wing", "10.0.0.7", "1234567", "a@b.cn", "", "王"])
LISTS = st.lists(st.none() | st.lists(st.none() | TEXTS, max_size=4), max_size=8)


def column(values: Lists) -> pl.Series:
    return pl.Series("v", values, dtype=pl.List(pl.String))


def mask(values: Lists | pl.Series, words: dict[str, Any], **changes: Any) -> pl.Series:
    frame = (values if isinstance(values, pl.Series) else column(values)).to_frame()
    lazy = masked(frame.lazy(), plans.thing_plan({"v": (words, LIST)}, **changes), SECRETS.of_release("rel-a"))
    result = lazy.collect()["v"]
    assert result.equals(lazy.collect(engine="streaming")["v"], null_equal=True)
    return result


def test_every_technique_says_what_a_list_is_to_it() -> None:
    listed = {id for id, kind in ALL.items() if "list" in kind.kinds}
    assert listed == {str(words["mask"]) for words in (*EACH, *WHOLE)} | {"rare", "drop"}
    assert {id for id, kind in ALL.items() if kind.each} == {str(words["mask"]) for words in EACH} | {"rare"}
    for words in EACH:
        assert parse(words).produces(LIST) == LIST
    assert parse({"mask": "constant", "value": 7}).produces(LIST) == INT64
    assert parse({"mask": "bucket", "size": 10}).problems(LIST) == (
        "bucket works on integer, float, decimal or date; this field is list(string)",
    )
    weekly = {"mask": "hmac", "domain": "person", "period": {"field": "day", "unit": "week"}}
    assert parse(weekly).problems(LIST)
    assert not parse(weekly).problems(STRING)


@pytest.mark.parametrize("words", EACH, ids=str)
@settings(max_examples=30, deadline=None)
@given(values=LISTS)
def test_each_element_becomes_what_it_would_alone(words: dict[str, Any], values: Lists) -> None:
    flat = [text for texts in values if texts is not None for text in texts]
    alone = plans.thing_plan({"v": (words, STRING)})
    given = pl.DataFrame({"v": flat}, schema={"v": pl.String})
    expected = iter(masked(given.lazy(), alone, SECRETS).collect()["v"].to_list())
    wanted = [None if texts is None else [next(expected) for _ in texts] for texts in values]
    assert mask(values, words).to_list() == wanted


@given(values=LISTS, least=st.integers(2, 4), data=st.data())
@settings(max_examples=60, deadline=None)
def test_an_element_is_rare_that_few_persons_have(values: Lists, least: int, data: st.DataObject) -> None:
    who = data.draw(st.lists(st.sampled_from(["p1", "p2", "p3", " P1"]), min_size=len(values), max_size=len(values)))
    words, have = {"mask": "rare", "min_count": least, "other": "few"}, defaultdict(set)
    rows: dict[str | None, int] = defaultdict(int)
    for person, texts in zip(who, values, strict=True):
        for text in set(texts or ()):
            have[text].add(person.strip().upper())
            rows[text] += 1

    def hidden(often: dict[str | None, int]) -> Lists:
        return [
            None if texts is None else [text if text is None or often[text] >= least else "few" for text in texts]
            for texts in values
        ]

    assert mask(values, words).to_list() == hidden(rows)
    plan = plans.plan({"v": (words, LIST)}, entity="who")
    frame = pl.DataFrame({"v": column(values), "who": pl.Series(who, dtype=pl.String)})
    found = masked(frame.lazy(), plan, SECRETS).collect(engine="streaming")["v"]
    assert found.to_list() == hidden({text: len(persons) for text, persons in have.items()})


def test_a_list_is_one_value_to_what_replaces_values() -> None:
    values: Lists = [["a", "b"], [], None, ["a", None]]
    assert mask(values, {"mask": "keep"}).to_list() == values
    assert mask(values, {"mask": "constant", "value": "-"}).to_list() == ["-", "-", None, "-"]
    assert mask(values, {"mask": "null"}).to_list() == [None] * 4
    ids = mask(values, {"mask": "random_id"}).to_list()
    assert ids[2] is None
    assert len({len(one) for one in ids if one}) == 1
    dealt = mask(values, {"mask": "shuffle", "least": 2}).to_list()
    assert dealt[2] is None
    assert sorted(map(repr, dealt)) == sorted(map(repr, values))


def wire(series: pl.Series) -> bytes:
    table = series.to_frame().to_arrow(compat_level=pl.CompatLevel.oldest())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("words", [*EACH, *WHOLE, {"mask": "rare", "min_count": 2}], ids=str)
def test_nothing_leaves_from_under_null_lists_or_null_elements(words: dict[str, Any]) -> None:
    texts = pa.array(["SECRET-UNDER-LIST", "SECRET-UNDER-TEXT", "17", "17"], pa.large_string())
    inside = pa.Array.from_buffers(texts.type, 4, [pa.py_buffer(b"\x0d"), *texts.buffers()[1:]])
    offsets = pa.array([0, 1, 3, 4], pa.int64())
    lists = pa.LargeListArray.from_arrays(offsets, inside, mask=pa.array([True, False, False]))
    hidden = pl.Series("v", lists)
    assert b"SECRET-UNDER" in wire(hidden)
    assert hidden.to_list() == [None, [None, "17"], ["17"]]
    result = mask(hidden, words)
    assert b"SECRET" not in wire(result)
    assert result.null_count() == (3 if words["mask"] == "null" else 1)


def test_categories_within_lists_become_texts() -> None:
    kind = pl.List(pl.Enum(["seen", "never-seen"]))
    found = mask(pl.Series("v", [["seen"], None], dtype=kind), {"mask": "keep"})
    assert found.to_list() == [["seen"], None]
    assert b"never" not in wire(found)


def test_pseudonyms_of_elements_join_those_of_values_and_can_be_turned_back() -> None:
    words = {"mask": "aes_siv", "domain": "person", **REVERSIBLE}
    technique = parse(words)
    assert isinstance(technique, AesSiv)
    (sealed,) = mask([["王小明", "a"]], words).to_list()[0][:1]
    assert turned_back(technique, sealed, SECRETS) == "王小明"


# --- through a release ------------------------------------------------------------------------

ROWS = 3000
CODES = [["J10", "E11"], ["J10"], [], None, ["J10", None]]
PEOPLE = pl.DataFrame(
    {
        "id": [f"p{i}" for i in range(ROWS)],
        "codes": pl.Series([CODES[i % 5] for i in range(ROWS)], dtype=pl.List(pl.String)),
        "notes": pl.Series([[f"note {i % 3}", "x"][: i % 3] for i in range(ROWS)], dtype=pl.List(pl.String)),
        "day": pl.Series([i % 4 for i in range(ROWS)]).cast(pl.Int32).cast(pl.Date),
    }
)
FIELDS: dict[str, tuple[dict[str, Any], Any]] = {
    "id": ({"mask": "hmac", "domain": "person"}, STRING),
    "codes": ({"mask": "prefix", "length": 1}, LIST),
    "notes": ({"mask": "keep"}, LIST),
    "day": ({"mask": "keep"}, DATE),
}
BOUNDS: dict[str, Any] = {"quasi_identifiers": ("codes", "day"), "pseudonyms": ("id",), "k": 5}


@pytest.mark.parametrize("limit", [0, 2**30])
def test_lists_leave_as_masked_and_classes_are_of_whole_lists(tmp_path: Path, limit: int) -> None:
    plan = plans.plan(FIELDS, **BOUNDS, sensitive={"notes": 1}, t={"notes": 0.9})
    made = release.make(
        plan,
        Held(PEOPLE),
        SECRETS,
        spool=tmp_path / "rel",
        release_id="rel-a",
        clock=lambda: 1_770_000_000,
        memory_limit=limit,
    )
    batches = [written_out(batch) for index in range(len(made.parts)) for batch in release.read_part(made, index)]
    found = pl.DataFrame(pl.from_arrow(pa.Table.from_batches(batches))).sort("id")
    expected = masked(PEOPLE.lazy(), plan, SECRETS).collect().sort("id")
    assert found.equals(expected)
    assert batches[0].schema.field("codes").type == pa.list_(pa.string())
    assert made.bounds is not None
    # Five lists by four days, which take turns; every one differs after its masks too.
    assert expected.select("codes", "day").n_unique() == 20
    rare = PEOPLE.with_columns(codes=pl.concat([pl.Series([["J10", "J10"]]), PEOPLE["codes"][1:]]))
    with pytest.raises(SluicegateError) as caught:
        release.make(plan, Held(rare), SECRETS, spool=tmp_path / "two", release_id="rel-b", clock=lambda: 1_770_000_000)
    assert caught.value.reason is Reason.BOUNDS_NOT_MET


@given(values=st.lists(st.none() | st.lists(st.none() | st.text("ab", max_size=2), max_size=3), max_size=12))
@settings(max_examples=60, deadline=None)
def test_classes_tell_lists_apart_as_outsiders_do(values: Lists) -> None:
    key = ReleaseKey(b"s" * 32, "rel-a")
    hashed = column(values).to_frame().select(classing.tuple_hash(["v"], key)).to_series()
    distinct = {repr(value) for value in values}
    assert hashed.n_unique() == len(distinct)


@pytest.mark.parametrize(
    ("held", "kind"),
    [
        (["fine", "call 13812345678"], "phone"),
        ([f"{0.01 * i:.4f}" for i in range(128)], "vector"),
    ],
)
def test_detectors_look_into_lists(tmp_path: Path, held: list[str], kind: str) -> None:
    notes = pl.concat([pl.Series([held]), PEOPLE["notes"][1:]])
    plan = plans.thing_plan({"notes": ({"mask": "keep"}, LIST)})
    found = dry_run(plan, Held(PEOPLE.with_columns(notes=notes)), spool=tmp_path / "s", entropy=lambda n: b"e" * n)
    assert [(finding.column, str(finding.kind), finding.rows) for finding in found.findings] == [("notes", kind, 1)]
