"""Search finds what it should, in any script, and nothing that the caller may not see."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.errors import Reason
from contracts.trust import PartyKind
from exchange import search
from exchange.records import Contract, Dataset
from exchange.store import Store, Tx
from tests.halls import party_record, refused

OWNER = "health-bureau"


def publish(
    tx: Tx,
    name: str,
    description: str = "",
    *,
    fields: str = "",
    purposes: str = "",
    consumers: tuple[str, ...] = ("*",),
) -> str:
    full = f"parties/{OWNER}/datasets/{name}"
    version = f"{full}/contracts/1.0.0"
    times = {"created": 1, "updated": 1}
    tx.insert(
        Contract(
            name=version,
            party=OWNER,
            dataset=name,
            document=b"",
            statement=b"",
            document_digest="",
            terms_digest="",
            gateway="",
            **times,
        )
    )
    tx.insert(
        Dataset(
            name=full,
            party=OWNER,
            dataset=name,
            contract=version,
            description=description,
            sharing_class="conditional",
            purposes=(),
            columns=(),
            consumers=consumers,
            **times,
        )
    )
    search.index(tx, full, title=name, purposes=purposes, fields=fields, description=description)
    return full


@pytest.fixture
def catalogue(store: Store) -> Store:
    with store.transaction() as tx:
        tx.insert(party_record(OWNER, PartyKind.DEPARTMENT))
        publish(
            tx, "visits", "医院门诊就诊记录，每日更新", fields="citizen_id visit_ts 诊断", purposes="transport-planning"
        )
        publish(tx, "taxi-trips", "Taxi trips by Straße and hour; 出租车", fields="pickup_ts fare")
        publish(tx, "secret-register", "医院内部 transport taxi", consumers=("centre",))
        publish(
            tx, "parking", '100%_free "places" AND more OR NOT NEAR(x) * ^ \' -- ; ＦＵＬＬＷＩＤＴＨ', fields="visits"
        )
        publish(tx, "emoji", "👩‍⚕️ ward-🚑")
    return store


def found(store: Store, query: str, party: str = "metro") -> list[str]:
    with store.read() as tx:
        visible = {"party": party, "consumers": ("*", party)}
        datasets = search.search(tx, search.words(query), visible=visible, after=None, limit=100)
        return [dataset.dataset for dataset in datasets]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("医院", ["visits"]),
        ("院", ["visits"]),
        ("医院门诊", ["visits"]),
        ("诊", ["visits"]),
        ("租", ["taxi-trips"]),
        ("出租", ["taxi-trips"]),
        ("医 诊断", ["visits"]),
        ("医院 出租", []),
        ("taxi", ["taxi-trips"]),
        ("TAXI", ["taxi-trips"]),
        ("ta", ["taxi-trips"]),
        ("axi-tr", ["taxi-trips"]),
        ("strasse", ["taxi-trips"]),
        ("STRASSE", ["taxi-trips"]),
        ("transport", ["visits"]),
        ("fare hour", ["taxi-trips"]),
        ("fullwidth", ["parking"]),
        ("ｆｕｌｌ", ["parking"]),
        ("visits", ["visits", "parking"]),
        ("_ts", ["taxi-trips", "visits"]),
        ("100%", ["parking"]),
        ("%", ["parking"]),
        ("0%_f", ["parking"]),
        ('"places"', ["parking"]),
        ('"', ["parking"]),
        ("NEAR(x)", ["parking"]),
        ("AND", ["parking", "taxi-trips"]),
        ("AND OR NOT", ["parking"]),
        ("title:visits", []),
        ("vis*", []),
        ("' OR '1'='1", []),
        ("🚑", ["emoji"]),
        ("nothing-like-it", []),
    ],
)
def test_what_is_found(catalogue: Store, query: str, expected: list[str]) -> None:
    assert found(catalogue, query) == expected


def test_best_first(store: Store) -> None:
    with store.transaction() as tx:
        tx.insert(party_record(OWNER, PartyKind.DEPARTMENT))
        publish(tx, "in-description", "bus")
        publish(tx, "in-fields", fields="bus")
        publish(tx, "in-purposes", purposes="bus")
        publish(tx, "bus")
        publish(tx, "in-description-later", "bus")
    assert found(store, "bus") == ["bus", "in-purposes", "in-fields", "in-description-later", "in-description"]


def test_what_may_not_be_seen_is_not_found(catalogue: Store) -> None:
    for query in ("secret", "内部", "register", "医院", "secret-register"):
        assert "secret-register" not in found(catalogue, query)
        assert "secret-register" in found(catalogue, query, "centre")
        assert "secret-register" in found(catalogue, query, OWNER)


def test_a_hidden_dataset_moves_nothing(catalogue: Store) -> None:
    """Order and pages of what is visible do not depend on what is not."""

    def pages(store: Store) -> list[list[str]]:
        result, after = [], None
        with store.read() as tx:
            while page := search.search(
                tx, search.words("a"), visible={"party": "metro", "consumers": ("*", "metro")}, after=after, limit=2
            ):
                result.append([dataset.dataset for dataset in page])
                after = page[-1].name
        return result

    before = pages(catalogue)
    with catalogue.transaction() as tx:
        for number in range(5):
            publish(tx, f"hidden-a-{number}", "a a a", consumers=("centre",))
    assert pages(catalogue) == before
    assert sum(map(len, before)) > 2


def test_a_cursor_of_what_is_hidden_is_no_cursor(catalogue: Store) -> None:
    with refused(Reason.PAGE_TOKEN_INVALID), catalogue.read() as tx:
        visible = {"party": "metro", "consumers": ("*", "metro")}
        search.search(tx, ("a",), visible=visible, after=f"parties/{OWNER}/datasets/secret-register", limit=2)


def test_words_are_replaced_with_the_contract(catalogue: Store) -> None:
    with catalogue.transaction() as tx:
        search.index(tx, f"parties/{OWNER}/datasets/visits", title="visits", purposes="", fields="", description="急诊")
    assert found(catalogue, "门诊") == []
    assert found(catalogue, "医院门诊") == []
    assert found(catalogue, "急诊") == ["visits"]


@pytest.mark.parametrize("query", ["", "   ", "\n", "\x00", "x" * 201, " ".join("abcdefghijk")])
def test_queries_that_are_none(query: str) -> None:
    with refused(Reason.INVALID_ARGUMENT):
        search.words(query)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_every_part_of_a_text_finds_it(store: Store, data: st.DataObject) -> None:
    """Whatever the script, a piece of what was indexed is found, and the database says what Python says."""
    alphabet = st.characters(exclude_categories=("Cs",), exclude_characters="\x00")
    text = data.draw(st.text(alphabet, min_size=1, max_size=12))
    query = data.draw(
        st.one_of(st.text(alphabet, min_size=1, max_size=4), st.sampled_from([text[:1], text[:2], text[-3:], text]))
    )
    try:
        wanted = search.words(query)
    except Exception:
        return
    with store.transaction() as tx:
        if tx.count(Dataset) == 0:
            tx.insert(party_record(OWNER, PartyKind.DEPARTMENT))
            publish(tx, "x")
        search.index(tx, f"parties/{OWNER}/datasets/x", title="", purposes="", fields="", description=text)
        got = search.search(tx, wanted, visible=None, after=None, limit=10)
    assert bool(got) == all(word in search.fold(text) for word in wanted)
