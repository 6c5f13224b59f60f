"""The catalogue: what may be published, who sees it, and that nobody else learns it is there."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from contracts import odcs
from contracts.envelope import Envelope, Kind, sign
from contracts.errors import Reason, SluicegateError
from contracts.instants import rfc3339
from contracts.papers import ContractStatement
from contracts.trust import Use
from exchange import catalog, ledger, records
from exchange.identity import Principal
from exchange.records import Call
from tests.halls import COORDINATION, SUPERVISION, City, migrated, refused
from tests.papers import CENTRE, COMPANY, DAY, DPO, EPIDEMIOLOGIST, NOW, PROVIDER, STEWARD, document, key

NAME = f"parties/{PROVIDER}/datasets/hospital-visits"


@pytest.fixture
def city(tmp_path: Path) -> Iterator[City]:
    store = migrated(tmp_path / "x.db")
    made = City(store)
    made.register_keys()
    made.register_gateway()
    yield made
    store.close()


@pytest.fixture
def steward() -> Principal:
    return City.who(PROVIDER, STEWARD, "steward")


@dataclass
class Offer:
    """A contract on its way to be published; every part of it can be made wrong."""

    parsed: dict[str, Any] = field(default_factory=document)
    signers: tuple[str, ...] = (STEWARD,)
    parent: str = f"parties/{PROVIDER}"
    gateway: str = f"parties/{PROVIDER}/gateways/health-bureau-1"
    etag: str = ""
    stated: dict[str, Any] = field(default_factory=dict)
    kind: Kind = Kind.CONTRACT

    @property
    def raw(self) -> bytes:
        return json.dumps(self.parsed, ensure_ascii=False, indent=1).encode()

    @property
    def statement(self) -> Envelope:
        contract = odcs.load(self.raw).contract
        said = ContractStatement(
            provider=contract.provider,
            dataset=contract.dataset,
            version=contract.version,
            document_digest=contract.document_digest,
            terms_digest=contract.terms_digest,
            published=rfc3339(NOW),
        )
        return sign(self.kind, {**msgspec.to_builtins(said), **self.stated}, *(key(signer) for signer in self.signers))

    def publish(self, city: City, who: Principal, call: Call | None = None, **arguments: Any) -> records.Dataset:
        given = {"document": self.raw, "statement": None, **arguments}
        given["statement"] = given["statement"] or self.statement
        return catalog.publish(city.hall, who, call, parent=self.parent, gateway=self.gateway, etag=self.etag, **given)


def terms(parsed: dict[str, Any], name: str) -> Any:
    """The value of one of the sluicegate properties."""
    return next(item["value"] for item in parsed["customProperties"] if item["property"] == name)


def changed(change: Callable[[dict[str, Any]], object], **root: Any) -> dict[str, Any]:
    parsed = copy.deepcopy(document(**root))
    change(parsed)
    return parsed


def events(city: City) -> list[str]:
    auditor = city.who(SUPERVISION, "auditor@audit.example", "auditor")
    return [entry.event for entry in ledger.entries(city.hall, auditor).items]


# --- publishing


def test_a_contract_is_published_as_it_stands(city: City, steward: Principal) -> None:
    offer = Offer()
    made = offer.publish(city, steward)
    assert (made.name, made.version, made.contract) == (NAME, 1, f"{NAME}/contracts/1.0.0")
    assert made.description == "One row per visit at a municipal hospital."
    assert made.sharing_class == "conditional"
    assert made.purposes == ("outbreak-monitoring", "transport-planning")
    assert made.columns[:2] == ("citizen_id", "patient_name")
    assert set(made.consumers) == {"*", CENTRE}
    contract = catalog.get_contract(city.hall, steward, made.contract)
    assert (contract.document, contract.statement) == (offer.raw, offer.statement.to_bytes())
    assert contract.document_digest == odcs.load(offer.raw).contract.document_digest
    assert contract.gateway == offer.gateway
    assert events(city) == ["contract.published"]


def test_the_ledger_tells_what_was_published(city: City, steward: Principal) -> None:
    made = Offer().publish(city, steward)
    (entry,) = ledger.entries(city.hall, steward).items
    assert entry.entry is not None
    told = json.loads(entry.entry)
    contract = catalog.get_contract(city.hall, steward, made.contract)
    assert (told["resource"], told["actor"]) == (made.contract, steward.name)
    assert told["detail"]["document"] == contract.document_digest
    assert (told["detail"]["allow"], told["detail"]["termsChanged"], told["detail"]["signers"]) == (True, True, 1)
    assert told["detail"]["policy"] == city.hall.policy.bundle_digest


def test_a_replay_gives_the_same_answer(city: City, steward: Principal) -> None:
    offer, call = Offer(), city.call(steward, "PublishContract", 1)
    made = offer.publish(city, steward, call)
    city.clock.now += 10 * DAY  # the statement would be too old by now
    assert offer.publish(city, steward, call) == made
    other = msgspec.structs.replace(call, body_digest="sha256:other")
    with refused(Reason.REQUEST_ID_REUSED):
        offer.publish(city, steward, other)
    assert events(city) == ["contract.published"]


@pytest.mark.parametrize(
    ("party", "roles"),
    [(PROVIDER, ("requester", "admin", "gateway")), (PROVIDER, ()), (COMPANY, ("steward",)), (CENTRE, ("dpo",))],
)
def test_only_its_stewards_publish_for_a_department(city: City, party: str, roles: tuple[str, ...]) -> None:
    with refused(Reason.ROLE_MISSING):
        Offer().publish(city, city.who(party, STEWARD, *roles))
    assert events(city) == []


def test_a_contract_of_another_department(city: City) -> None:
    """The centre's steward may not publish what says it is the health bureau's."""
    city.register_gateway(CENTRE, "centre-1")
    offer = Offer(parent=f"parties/{CENTRE}", gateway=f"parties/{CENTRE}/gateways/centre-1")
    with refused(Reason.CONTRACT_INVALID) as caught:
        offer.publish(city, city.who(CENTRE, EPIDEMIOLOGIST, "steward"))
    assert [violation.path for violation in caught.value.violations] == ["team.name"]
    assert caught.value.violations[0].line is not None


def test_every_violation_is_named(city: City, steward: Principal) -> None:
    def break_it(parsed: dict[str, Any]) -> None:
        fields = terms(parsed, "purposes")["transport-planning"]["fields"]
        fields["patient_name"] = {"mask": "keep"}
        fields["citizen_id"] = {"mask": "keep"}

    broken = Offer(parsed=changed(break_it))
    with refused(Reason.CONTRACT_INVALID) as caught:
        broken.publish(city, steward)
    assert len(caught.value.violations) >= 2
    assert all(violation.line for violation in caught.value.violations)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", Reason.CONTRACT_INVALID),
        (b"not: [yaml", Reason.CONTRACT_INVALID),
        (b"a: 1", Reason.CONTRACT_INVALID),
        (b"\xff\xfe", Reason.CONTRACT_INVALID),
        (b"a: &a [*a]", Reason.CONTRACT_INVALID),
        (b"a: " + b"x" * (2 * 1024 * 1024), Reason.TOO_LARGE),
    ],
)
def test_what_is_no_contract(city: City, steward: Principal, raw: bytes, reason: Reason) -> None:
    with refused(reason):
        Offer().publish(city, steward, document=raw, statement=Offer().statement)
    assert events(city) == []


@pytest.mark.parametrize(
    "stated",
    [
        {"documentDigest": "sha256:" + "0" * 64},
        {"termsDigest": "sha256:" + "0" * 64},
        {"version": "1.0.1"},
        {"dataset": "other"},
        {"provider": COMPANY},
    ],
)
def test_a_statement_about_something_else(city: City, steward: Principal, stated: dict[str, Any]) -> None:
    with refused(Reason.SIGNATURE_INVALID):
        Offer(stated=stated).publish(city, steward)


@pytest.mark.parametrize("published", ["yesterday", "", rfc3339(NOW + DAY), rfc3339(NOW - 2 * DAY)])
def test_a_statement_of_another_time(city: City, steward: Principal, published: str) -> None:
    with refused(Reason.INVALID_ARGUMENT):
        Offer(stated={"published": published}).publish(city, steward)


@pytest.mark.parametrize("signer", ["nobody", f"root:{PROVIDER}", "health-bureau-1", EPIDEMIOLOGIST, "checkpoint"])
def test_who_may_not_sign(city: City, steward: Principal, signer: str) -> None:
    """A stranger, the root, a gateway, another party's person, the exchange itself."""
    for signers in ((signer,), (STEWARD, signer)):
        with refused(Reason.KEY_UNTRUSTED):
            Offer(signers=signers).publish(city, steward)
    assert events(city) == []


def test_signatures_that_are_none(city: City, steward: Principal) -> None:
    good = Offer().statement
    other_kind = Offer(kind=Kind.REQUEST).statement
    for statement in (
        Envelope(good.payload, ()),
        Envelope(good.payload, other_kind.signatures),
        Envelope(good.payload, good.signatures * 2),
    ):
        with refused(Reason.SIGNATURE_INVALID):
            Offer().publish(city, steward, statement=statement)


def test_a_revoked_key_signs_nothing_new(city: City, steward: Principal) -> None:
    with city.store.transaction() as tx:
        record = tx.get(records.Key, f"parties/{PROVIDER}/keys/{key(STEWARD).kid}")
        assert record is not None
        revocation = city.cast.revocation(PROVIDER, STEWARD, NOW - 1).to_bytes()
        tx.replace(msgspec.structs.replace(record, revocation=revocation), expected_version=1)
    with refused(Reason.KEY_UNTRUSTED):
        Offer().publish(city, steward)
    Offer(signers=(DPO,)).publish(city, steward)


def test_an_expired_key_signs_nothing(city: City, steward: Principal) -> None:
    city.clock.now += 400 * DAY
    with refused(Reason.KEY_UNTRUSTED):
        Offer(stated={"published": rfc3339(city.clock.now)}).publish(city, steward)


@pytest.mark.parametrize(
    "gateway",
    [
        "",
        "health-bureau-1",
        f"parties/{PROVIDER}/gateways/none",
        f"parties/{CENTRE}/gateways/centre-1",
        "parties/../x",
        "\x00",
    ],
)
def test_a_gateway_that_is_not_the_departments(city: City, steward: Principal, gateway: str) -> None:
    city.register_gateway(CENTRE, "centre-1")
    with refused(Reason.NOT_FOUND):
        Offer(gateway=gateway).publish(city, steward)


def test_a_standing_offer_needs_the_signers_of_its_highest_tier(city: City, steward: Principal) -> None:
    parsed = document(sharing="unconditional")
    with refused(Reason.POLICY_REFUSED) as caught:
        Offer(parsed=parsed).publish(city, steward)
    assert "SIGNERS_TOO_FEW" in {violation.code for violation in caught.value.violations}
    assert events(city) == ["contract.publish.refused"]
    with city.store.read() as tx:
        assert tx.count(records.Dataset) == tx.count(records.Contract) == 0
    Offer(parsed=parsed, signers=(STEWARD, DPO)).publish(city, steward)
    assert events(city) == ["contract.published", "contract.publish.refused"]


def test_two_keys_of_one_person_are_one_signer(city: City, steward: Principal) -> None:
    spare = city.cast.statement(PROVIDER, STEWARD, Use.APPROVER, owner="steward's spare key")
    kid = key("steward's spare key").kid
    with city.store.transaction() as tx:
        tx.insert(
            records.Key(
                name=f"parties/{PROVIDER}/keys/{kid}",
                party=PROVIDER,
                kid=kid,
                subject=STEWARD,
                use="approver",
                statement=spare.to_bytes(),
                created=NOW,
                updated=NOW,
            )
        )
    with refused(Reason.POLICY_REFUSED):
        Offer(parsed=document(sharing="unconditional"), signers=(STEWARD, "steward's spare key")).publish(city, steward)


def test_nothing_is_published_without_the_ledger(city: City, steward: Principal) -> None:
    with city.store.transaction() as tx:
        tx.connection.execute(
            sa.text("CREATE TRIGGER full BEFORE INSERT ON ledger_entries BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        )
    with pytest.raises(SluicegateError):
        Offer().publish(city, steward)
    with city.store.read() as tx:
        assert tx.count(records.Dataset) == tx.count(records.Contract) == 0
    with refused(Reason.NOT_FOUND):
        catalog.get(city.hall, steward, NAME)


# --- versions


def version(number: str, **root: Any) -> dict[str, Any]:
    return document(version=number, **root)


def test_a_new_version_takes_the_old_ones_place(city: City, steward: Principal) -> None:
    first = Offer().publish(city, steward)
    second = Offer(parsed=version("1.1.0", domain="hospitals"), etag=first.etag).publish(city, steward)
    assert (second.version, second.contract, second.created) == (2, f"{NAME}/contracts/1.1.0", first.created)
    versions = catalog.list_contracts(city.hall, steward, parent=NAME).items
    assert [item.name.rsplit("/", 1)[-1] for item in versions] == ["1.1.0", "1.0.0"]
    # What agreements are bound to has not moved.
    assert catalog.get_contract(city.hall, steward, first.contract).document == Offer().raw


@pytest.mark.parametrize(("root", "terms_changed"), [({"tags": ["new"]}, False), ({"domain": "other"}, True)])
def test_whether_the_terms_changed_is_on_record(
    city: City, steward: Principal, root: dict[str, Any], terms_changed: bool
) -> None:
    first = Offer().publish(city, steward)
    second = Offer(parsed=version("1.0.1", **root), etag=first.etag).publish(city, steward)
    contracts = [catalog.get_contract(city.hall, steward, item.contract) for item in (first, second)]
    assert (contracts[0].terms_digest != contracts[1].terms_digest) is terms_changed
    assert contracts[0].document_digest != contracts[1].document_digest
    newest = ledger.entries(city.hall, steward).items[0].entry
    assert newest is not None
    assert json.loads(newest)["detail"]["termsChanged"] is terms_changed


def test_a_version_never_changes(city: City, steward: Principal) -> None:
    first = Offer().publish(city, steward)
    for parsed in (document(), document(domain="other"), document(tags=["x"])):
        with refused(Reason.ALREADY_EXISTS):
            Offer(parsed=parsed, etag=first.etag).publish(city, steward)
    assert catalog.get(city.hall, steward, NAME) == first


def test_versions_go_forward_by_number(city: City, steward: Principal) -> None:
    made = Offer(parsed=version("1.9.0")).publish(city, steward)
    made = Offer(parsed=version("1.10.0"), etag=made.etag).publish(city, steward)
    for older in ("1.2.0", "1.9.9", "0.9.0"):
        with refused(Reason.CONTRACT_INVALID):
            Offer(parsed=version(older), etag=made.etag).publish(city, steward)


def test_a_stale_etag(city: City, steward: Principal) -> None:
    with refused(Reason.ETAG_MISMATCH):
        Offer(etag='"1"').publish(city, steward)
    first = Offer().publish(city, steward)
    Offer(parsed=version("1.1.0"), etag=first.etag).publish(city, steward)
    with refused(Reason.ETAG_MISMATCH):
        Offer(parsed=version("1.2.0"), etag=first.etag).publish(city, steward)
    with refused(Reason.INVALID_ARGUMENT):
        Offer(parsed=version("1.2.0")).publish(city, steward)


# --- who sees what


@pytest.fixture
def shelf(city: City, steward: Principal) -> City:
    """Three datasets: for everyone, for the centre alone, for nobody."""

    def only_centre(parsed: dict[str, Any]) -> None:
        purposes = terms(parsed, "purposes")
        del purposes["transport-planning"]
        parsed["roles"] = [role for role in parsed["roles"] if role["role"] != "transport-planning"]

    Offer().publish(city, steward)
    Offer(parsed=changed(only_centre, name="quiet-register")).publish(city, steward)

    def nobody(parsed: dict[str, Any]) -> None:
        terms(parsed, "purposes").clear()
        parsed["roles"] = []

    Offer(parsed=changed(nobody, name="sealed-files", sharing="not-shared")).publish(city, steward)
    return city


VIEWERS = {
    (PROVIDER, "steward"): {"hospital-visits", "quiet-register", "sealed-files"},
    (COORDINATION, "mediator"): {"hospital-visits", "quiet-register", "sealed-files"},
    (SUPERVISION, "auditor"): {"hospital-visits", "quiet-register", "sealed-files"},
    (CENTRE, "requester"): {"hospital-visits", "quiet-register"},
    (COMPANY, "requester"): {"hospital-visits"},
}


@pytest.mark.parametrize(("viewer", "expected"), VIEWERS.items())
def test_who_sees_what(shelf: City, viewer: tuple[str, str], expected: set[str]) -> None:
    who = shelf.who(viewer[0], "x@y.example", viewer[1])
    assert {item.dataset for item in catalog.list_(shelf.hall, who, parent="parties/-").items} == expected
    assert {item.dataset for item in catalog.list_(shelf.hall, who, parent=f"parties/{PROVIDER}").items} == expected
    assert catalog.list_(shelf.hall, who, parent=f"parties/{CENTRE}").items == ()
    assert {item.dataset for item in catalog.search(shelf.hall, who, query="health").items} == expected
    for name in ("hospital-visits", "quiet-register", "sealed-files"):
        full = f"parties/{PROVIDER}/datasets/{name}"
        actions: list[Callable[[], object]] = [
            lambda full=full: catalog.get(shelf.hall, who, full),  # type: ignore[misc]
            lambda full=full: catalog.get_contract(shelf.hall, who, f"{full}/contracts/1.0.0"),  # type: ignore[misc]
            lambda full=full: catalog.list_contracts(shelf.hall, who, parent=full),  # type: ignore[misc]
        ]
        for action in actions:
            if name in expected:
                action()
            else:
                with refused(Reason.NOT_FOUND):
                    action()


def test_hidden_and_absent_are_told_apart_by_nothing(shelf: City) -> None:
    """Same reason, same words, same metadata, for every way to ask."""
    who = shelf.who(COMPANY, "a@metro.example", "requester")

    def asked(dataset: str) -> list[tuple[object, ...]]:
        full = f"parties/{PROVIDER}/datasets/{dataset}"
        answers = []
        for action in (
            lambda: catalog.get(shelf.hall, who, full),
            lambda: catalog.get_contract(shelf.hall, who, f"{full}/contracts/1.0.0"),
            lambda: catalog.list_contracts(shelf.hall, who, parent=full),
        ):
            with pytest.raises(SluicegateError) as caught:
                action()
            error = caught.value
            answers.append((error.reason, error.message.replace(dataset, "X"), error.violations, dict(error.metadata)))
        return answers

    assert asked("quiet-register") == asked("never-was-here")
    assert catalog.search(shelf.hall, who, query="quiet").items == ()


def test_a_consumer_sees_the_purposes_that_are_for_it(shelf: City) -> None:
    seen = catalog.get(shelf.hall, shelf.who(COMPANY, "a@metro.example", "requester"), NAME)
    assert (seen.purposes, seen.consumers, seen.offers) == (
        ("transport-planning",),
        ("*",),
        {"transport-planning": ("*",)},
    )
    seen = catalog.get(shelf.hall, shelf.who(CENTRE, EPIDEMIOLOGIST, "requester"), NAME)
    assert seen.purposes == ("outbreak-monitoring", "transport-planning")
    everything = catalog.get(shelf.hall, shelf.who(PROVIDER, STEWARD, "steward"), NAME)
    assert set(everything.offers["outbreak-monitoring"]) == {CENTRE}


def test_who_is_let_in_later_does_not_read_the_past(city: City, steward: Principal) -> None:
    """An earlier version was for the centre alone; being a consumer of the newest opens only that."""

    def only_centre(parsed: dict[str, Any]) -> None:
        terms(parsed, "purposes")["transport-planning"]["consumers"] = [CENTRE]

    first = Offer(parsed=changed(only_centre)).publish(city, steward)
    outsider = city.who(COMPANY, "a@metro.example", "requester")
    with refused(Reason.NOT_FOUND):
        catalog.get(city.hall, outsider, NAME)
    second = Offer(parsed=version("2.0.0"), etag=first.etag).publish(city, steward)
    assert catalog.get(city.hall, outsider, NAME).contract == second.contract
    assert [item.name for item in catalog.list_contracts(city.hall, outsider, parent=NAME).items] == [second.contract]
    with refused(Reason.NOT_FOUND):
        catalog.get_contract(city.hall, outsider, first.contract)


def test_who_is_shut_out_later_keeps_what_it_had(city: City, steward: Principal) -> None:
    first = Offer().publish(city, steward)

    def only_centre(parsed: dict[str, Any]) -> None:
        terms(parsed, "purposes")["transport-planning"]["consumers"] = [CENTRE]

    Offer(parsed=changed(only_centre, version="2.0.0"), etag=first.etag).publish(city, steward)
    outsider = city.who(COMPANY, "a@metro.example", "requester")
    with refused(Reason.NOT_FOUND):
        catalog.get(city.hall, outsider, NAME)
    assert catalog.search(city.hall, outsider, query="hospital").items == ()
    assert catalog.get_contract(city.hall, outsider, first.contract).document == Offer().raw
    with refused(Reason.NOT_FOUND):
        catalog.get_contract(city.hall, outsider, f"{NAME}/contracts/2.0.0")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "parties/-",
        f"{NAME}/",
        f"{NAME}/../hospital-visits",
        f"{NAME}\x00",
        NAME.upper(),
        "hospital-visits",
        f"{NAME}%2f",
        "//",
        f"../{NAME}",
    ],
)
def test_names_with_path_characters(shelf: City, steward: Principal, name: str) -> None:
    with refused(Reason.NOT_FOUND):
        catalog.get(shelf.hall, steward, name)
    with refused(Reason.NOT_FOUND):
        catalog.get_contract(shelf.hall, steward, f"{name}/contracts/1.0.0")
    with refused(Reason.NOT_FOUND):
        catalog.list_contracts(shelf.hall, steward, parent=name)


# --- pages and searches


def test_pages(shelf: City, steward: Principal) -> None:
    whole = catalog.list_(shelf.hall, steward, parent="parties/-").items
    one = catalog.list_(shelf.hall, steward, parent="parties/-", page_size=2)
    two = catalog.list_(shelf.hall, steward, parent="parties/-", page_size=2, page_token=one.next_token)
    assert (*one.items, *two.items) == whole
    assert two.next_token == ""
    found = catalog.search(shelf.hall, steward, query="health", page_size=2)
    rest = catalog.search(shelf.hall, steward, query="HEALTH", page_size=2, page_token=found.next_token)
    assert len({item.name for item in (*found.items, *rest.items)}) == 3
    with refused(Reason.PAGE_TOKEN_INVALID):
        catalog.search(shelf.hall, steward, query="visits", page_token=found.next_token)
    with refused(Reason.PAGE_TOKEN_INVALID):
        catalog.list_(shelf.hall, steward, parent=f"parties/{PROVIDER}", page_token=one.next_token)
    with refused(Reason.PAGE_TOKEN_INVALID):
        catalog.list_(shelf.hall, shelf.who(PROVIDER, DPO, "dpo"), parent="parties/-", page_token=one.next_token)


@pytest.mark.parametrize("size", [-1, 1001, 2**31 - 1])
def test_page_sizes_that_cannot_be(city: City, steward: Principal, size: int) -> None:
    for action in (
        lambda: catalog.list_(city.hall, steward, parent="parties/-", page_size=size),
        lambda: catalog.search(city.hall, steward, query="x", page_size=size),
        lambda: catalog.list_contracts(city.hall, steward, parent=NAME, page_size=size),
    ):
        with refused(Reason.INVALID_ARGUMENT):
            action()


@pytest.mark.parametrize("parent", ["", "parties", "health-bureau", "datasets/x"])
def test_parents_that_cannot_be(city: City, steward: Principal, parent: str) -> None:
    with refused(Reason.INVALID_ARGUMENT):
        catalog.list_(city.hall, steward, parent=parent)


@pytest.mark.parametrize(
    "query",
    ["hospital", "municipal visit", "citizen_id", "national-id", "transport", "surveillance", "health", "visits", "门"],
)
def test_a_search_looks_at_name_description_columns_and_purposes(city: City, steward: Principal, query: str) -> None:
    offer = Offer(parsed=document(description={"purpose": "One row per visit at a municipal hospital. 门诊"}))
    offer.publish(city, steward)
    assert [item.name for item in catalog.search(city.hall, steward, query=query).items] == [NAME]


def test_a_search_finds_the_newest_words(city: City, steward: Principal) -> None:
    first = Offer(parsed=document(tags=["ambulance"])).publish(city, steward)
    assert catalog.search(city.hall, steward, query="ambulance").items
    Offer(parsed=version("1.1.0", tags=["helicopter"]), etag=first.etag).publish(city, steward)
    assert not catalog.search(city.hall, steward, query="ambulance").items
    assert catalog.search(city.hall, steward, query="helicopter").items
