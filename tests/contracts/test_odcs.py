"""Contracts: what loads, what is refused, with which words and on which line."""

from __future__ import annotations

import copy
import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts import dtypes, lint, odcs, publishing, yaml12
from contracts.errors import Reason, SluicegateError
from contracts.model import Identifiability, SharingClass, Tier
from contracts.techniques import Bucket, Hmac
from tests.documents import CORPORA, EXAMPLE, Case, cases, only, refused, replaceable, spoilt


def document() -> dict[str, Any]:
    """The example as a value to change."""
    return copy.deepcopy(yaml12.load(EXAMPLE.encode()).value)


def written(value: object) -> bytes:
    """A document as JSON, which is YAML too."""
    return json.dumps(value, ensure_ascii=False).encode()


def test_the_example_loads_whole() -> None:
    loaded = odcs.load(EXAMPLE.encode())
    contract = loaded.contract
    assert (contract.dataset, contract.provider, contract.version) == ("hospital-visits", "health-bureau", "2.1.0")
    assert contract.sharing.class_ is SharingClass.CONDITIONAL
    citizen = contract.field("citizen_id")
    assert citizen is not None
    assert (citizen.classification, citizen.identifiability) == (Tier.HIGHLY_PRIVATE, Identifiability.DIRECT)
    assert (citizen.category, citizen.required, citizen.unique) == ("national-id", True, False)
    outbreak = contract.purposes["outbreak-monitoring"]
    assert list(outbreak.fields) == [
        "citizen_id", "birth_date", "sex", "home_postcode", "visit_ts", "diagnosis_icd10",
    ]  # fmt: skip
    assert isinstance(outbreak.fields["citizen_id"], Hmac)
    assert isinstance(outbreak.fields["birth_date"], Bucket)
    assert outbreak.effectiveness is not None
    assert (outbreak.effectiveness.require.k, outbreak.effectiveness.require.l) == (10, {"diagnosis_icd10": 2})
    role = contract.role("outbreak-monitoring")
    assert role is not None
    assert role.approvers == ("steward@health.example", "dpo@health.example")
    assert contract.negative_list.together == (("citizen_id", "diagnosis_icd10", "cost_cents"),)
    assert contract.obligations.deletion_proof == "P7D"
    assert contract.responsibilities["audit"].party == "city-data-office"
    assert loaded.raw == EXAMPLE.encode()


def test_the_digests_of_the_example_are_what_they_always_were() -> None:
    """Agreements bind to these bytes: a change here breaks every signed paper there is."""
    contract = odcs.load(EXAMPLE.encode()).contract
    assert contract.document_digest == "sha256:2de2fe433201433e461c05fbd4a987ffef93e2139f9a2d878a18c847317e8092"
    assert contract.terms_digest == "sha256:b84bfea1ee7cc1dbb47dae5f8579b314ea9dc8f3d6e6d3622866b6939a840360"


@pytest.mark.parametrize("version", ["v3.0.0", "v3.0.1", "v3.0.2", "v3.1.0", "v3.2.0"])
def test_every_version_of_odcs_3_is_read(version: str) -> None:
    assert odcs.load(spoilt(("apiVersion: v3.2.0", f"apiVersion: {version}"))).contract.dataset == "hospital-visits"


def test_odcs_3_0_knows_neither_vendors_nor_team_names() -> None:
    older = document()
    older["apiVersion"] = "v3.0.2"
    older["team"] = older["team"]["members"]
    for entry in older["customProperties"]:
        del entry["vendor"]
    contract = odcs.load(written(older)).contract
    assert contract.provider == "health-bureau"
    assert set(contract.purposes) == {"outbreak-monitoring", "transport-planning"}


def test_properties_of_other_vendors_are_left_alone() -> None:
    other = document()
    other["customProperties"].append({"property": "purposes", "vendor": "catalogue", "value": 5})
    other["customProperties"].append({"property": "colour", "value": "blue"})
    other["schema"][0]["properties"][0]["customProperties"].append({"property": "steward", "value": "x"})
    assert odcs.load(written(other)).contract.dataset == "hospital-visits"


# --- refused: not a contract at all ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "code", "line"),
    [
        (b"just some text", "NOT_ODCS", 1),
        (b"- a\n- b\n", "NOT_ODCS", 1),
        (b"hello: world\n", "NOT_ODCS", 1),
        (b"a: [\n", "NOT_YAML", 2),
        (b"%PDF-1.7\n\xd0\xd4\n", "NOT_UTF8", 2),
        (EXAMPLE.encode() + b"\n---\na: b\n", "DOCUMENTS", EXAMPLE.count("\n") + 2),
        (spoilt(("kind: DataContract", "kind: DataProduct")), "NOT_ODCS", 9),
        (spoilt(("apiVersion: v3.2.0", "apiVersion: v2.2.2")), "NOT_ODCS", 8),
        (spoilt(("apiVersion: v3.2.0\n", "")), "NOT_ODCS", 8),
    ],
)
def test_what_is_no_contract(raw: bytes, code: str, line: int) -> None:
    found = refused(raw).violations
    assert found[0].code == code
    assert found[0].line == line
    assert found[0].hint


def test_a_100_megabyte_file() -> None:
    raw = EXAMPLE.encode() + b"#" * (100 * 1024 * 1024)
    assert "2097152" in refused(raw, Reason.TOO_LARGE).message


def test_an_alias_bomb_inside_a_contract() -> None:
    bomb = "tags: &a [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"t{n}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(8))
    assert only(EXAMPLE.encode() + bomb.encode()).code == "VALUES"


# --- refused: one thing wrong, one violation, in its place ----------------------------------------

CASES = cases("spoilt-form.yaml")


@pytest.mark.parametrize("name", CASES)
def test_one_thing_wrong_is_one_violation_in_its_place(name: str) -> None:
    case = CASES[name]
    found = only(spoilt(*case.changes))
    assert found.path == case.path
    assert fnmatch(found.code, case.code)
    assert case.says in f"{found.message} {found.hint}"
    # The line is one that the change touched; of what is missing, that of the part it is missing from.
    first = EXAMPLE[: EXAMPLE.index(case.changes[0][0])].count("\n") + 1
    touched = range(first, first + max(part.count("\n") for part in case.changes[0]) + 1)
    assert found.line in touched or "missing" in found.message or found.line in range(first - 16, first)


def test_purpose_without_fields() -> None:
    value = document()
    value["customProperties"][1]["value"]["transport-planning"]["fields"] = {}
    value["customProperties"][1]["value"]["transport-planning"]["effectiveness"]["quasiIdentifiers"] = ["visit_ts"]
    found = refused(written(value)).violations
    assert "customProperties.purposes.transport-planning.fields" in {item.path for item in found}
    assert any("at least 1 needed: the fields sent" in item.message for item in found)
    del value["customProperties"][1]["value"]["transport-planning"]["fields"]
    found = refused(written(value)).violations
    assert any(item.message == "`fields` is missing" for item in found)


@pytest.mark.parametrize("name", odcs.PROPERTIES)
def test_a_deleted_property_is_missed(name: str) -> None:
    value = document()
    value["customProperties"] = [entry for entry in value["customProperties"] if entry["property"] != name]
    messages = [item.message for item in refused(written(value)).violations]
    assert f"the property '{name}' is missing" in messages


@pytest.mark.parametrize("name", odcs.PROPERTIES)
@pytest.mark.parametrize("spoil", [None, [], {}, "", 0, [{}], {"x": 1}])
def test_an_emptied_property_is_missed(name: str, spoil: object) -> None:
    """Neither null nor an empty value passes for a negative list or obligations."""
    value = document()
    next(entry for entry in value["customProperties"] if entry["property"] == name)["value"] = spoil
    paths = [item.path for item in refused(written(value)).violations]
    assert any(path.startswith(f"customProperties.{name}") for path in paths)


def test_a_property_without_vendor_or_doubled_or_misspelt() -> None:
    assert only(spoilt(("  - property: obligations\n    vendor: sluicegate", "  - property: obligations"))).hint == (
        "add 'vendor: sluicegate' to it"
    )
    doubled = document()
    doubled["customProperties"].append(doubled["customProperties"][0])
    assert only(written(doubled)).code == "DUPLICATE"
    codes = [item.code for item in refused(spoilt(("property: negativeList", "property: negativelist"))).violations]
    assert sorted(codes) == ["PROPERTY_MISSING", "PROPERTY_UNKNOWN"]


def test_everything_wrong_is_said_at_once_in_the_order_of_the_file() -> None:
    kept: list[Case] = []
    for case in CASES.values():
        together = [change for other in (*kept, case) for change in other.changes]
        again = any(case.changes[0][0] in new for other in kept for _, new in other.changes)
        if case.code not in ("DUPLICATE_KEY", "NOT_FINITE", "INTEGER_RANGE") and not again and replaceable(*together):
            kept.append(case)
    assert len(kept) > 20
    found = refused(spoilt(*[change for case in kept for change in case.changes])).violations
    # Some spoil what others would be judged by (an unknown standard, say); most stand side by side.
    assert len({item.path for item in found} & {case.path for case in kept}) > 20
    lines = [item.line or 0 for item in found]
    assert lines == sorted(lines)


# --- strip ------------------------------------------------------------------------------------------

DIRTY: tuple[tuple[str, str], ...] = (
    ("      - name: phone\n", "      - name: phone\n        examples: ['13800138000']\n"),
    ("      - name: hospital_code\n", "      - name: hospital_code\n        examples: [H01]\n"),
    (
        "tenant: example-city",
        "tenant: example-city\nservers:\n  - {server: a, type: api, location: 'https://api.health.example/v1'}\n"
        "  - {server: b, type: postgres, host: db01.health.lan, port: 5432, database: v, schema: s}\n"
        "  - {server: c, type: kafka, host: 'kafka.health.example:9092,10.0.0.9:9092'}",
    ),
)


def test_strip_removes_exactly_what_may_not_be_published() -> None:
    dirty = spoilt(*DIRTY)
    assert {item.code for item in refused(dirty).violations} == {"EXPOSED"}
    clean = odcs.strip(dirty)
    for secret in (b"13800138000", b"db01", b"10.0.0.9"):
        assert secret not in clean
    value = yaml12.load(clean).value
    assert [server["server"] for server in value["servers"]] == ["a"]
    assert value["schema"][0]["properties"][9]["examples"] == ["H01"]
    expected = yaml12.load(dirty).value
    expected["servers"] = expected["servers"][:1]
    del expected["schema"][0]["properties"][3]["examples"]
    assert value == expected
    assert odcs.strip(clean) == clean
    lint.check(clean)


def test_strip_keeps_words_that_other_readers_take_for_values() -> None:
    raw = b"a: 'no'\nb: '0o17'\nc: '1e3'\nd: '2024-01-31'\ne: '1_000'\nf: 1.0e+20\ng: '12:30'\nh: '~'\n"
    raw += b"i: 0o17\nj: '017'\n"
    value = yaml12.load(raw).value
    assert yaml12.load(odcs.strip(raw)).value == value
    assert yaml.safe_load(odcs.strip(raw)) == value


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "192.168.1.4", "[fd00::1]", "[::1]", "db", "localhost", "x.local", "a.b.internal", "k.corp"],
)
@pytest.mark.parametrize("form", ["https://{}:8443/x", "jdbc:postgresql://{}:5432/db", "mongodb://user@{}/?x=1"])
def test_internal_hosts_in_urls(host: str, form: str) -> None:
    server = {"server": "s", "type": "custom", "endpointUrl": form.format(host)}
    assert [path for path, _, _ in publishing.exposed({"servers": [server]})] == [("servers", 0, "endpointUrl")]


@pytest.mark.parametrize(
    "location", ["https://data.health.example/api", "s3://visits/2024", "https://8.8.8.8/", "${HOST}"]
)
def test_public_places_in_servers(location: str) -> None:
    server = {"server": "s", "type": "api", "location": location}
    assert odcs.load(written({**document(), "servers": [server]})).contract.dataset == "hospital-visits"


# --- other documents --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "file", sorted(CORPORA.glob("odcs/*.odcs.yaml")) or [pytest.param(None, marks=pytest.mark.skip("corpora absent"))],
    ids=lambda file: getattr(file, "name", "none"),
)  # fmt: skip
def test_the_standards_own_examples_are_told_what_they_lack(file: Path) -> None:
    """All are valid ODCS: none is refused as such, each is told of all five properties."""
    with pytest.raises(SluicegateError) as caught:
        odcs.load(file.read_bytes(), name=file.name)
    assert caught.value.reason is Reason.CONTRACT_INVALID
    assert file.name in str(caught.value)
    found = caught.value.violations
    assert not [item for item in found if item.code in ("ODCS_INVALID", "NOT_ODCS")]
    missing = [item.path for item in found if item.code == "PROPERTY_MISSING"]
    assert sorted(missing) == sorted(f"customProperties.{name}" for name in odcs.PROPERTIES)
    assert all(item.hint for item in found if item.code == "PROPERTY_MISSING")
    stripped = odcs.strip(file.read_bytes(), name=file.name)
    with pytest.raises(SluicegateError) as again:
        odcs.load(stripped)
    assert not [item for item in again.value.violations if item.code == "EXPOSED"]


def _paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for key, item in below for path in _paths(item, (*at, key)))]


_PATHS = [path for path in _paths(document()) if path]
_ANYTHING = (
    st.none()
    | st.booleans()
    | st.integers(-5, 2**50)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
_SPOIL = st.recursive(
    _ANYTHING | st.sampled_from(["*", "keep", "dpv:Marketing", "citizen_id", "prohibited", "P1D", "consumer"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["mask", "k", "a", "value", "property"]), inner, max_size=3)
    ),
    max_leaves=4,
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(_PATHS), st.just("delete") | _SPOIL), min_size=1, max_size=4))
def test_a_spoilt_contract_loads_or_is_refused_but_never_crashes(spoils: list[tuple[tuple[Any, ...], Any]]) -> None:
    value = document()
    for path, new in spoils:
        target = value
        try:
            for key in path[:-1]:
                target = target[key]
            if new == "delete":
                del target[path[-1]]
            else:
                target[path[-1]] = new
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took it away
    refusal = None
    try:
        lint.check(written(value))
    except SluicegateError as error:
        refusal = error
    assert refusal is None or (refusal.reason is Reason.CONTRACT_INVALID and refusal.violations)


@pytest.mark.parametrize(
    ("logical", "kinds"),
    [
        ("string", {"string"}),
        ("integer", {"integer"}),
        ("number", {"integer", "float", "decimal"}),
        ("boolean", {"boolean"}),
        ("date", {"date"}),
        ("timestamp", {"timestamp"}),
        ("time", {"time"}),
        ("object", set()),
        ("array", {"list"}),
        ("", set()),
    ],
)
def test_which_data_fits_a_logical_type(logical: str, kinds: set[str]) -> None:
    every: tuple[dtypes.Kind, ...] = (
        "string", "boolean", "integer", "float", "decimal", "date", "timestamp", "time", "binary", "list", "other",
    )  # fmt: skip
    assert {kind for kind in every if odcs.fits(logical, dtypes.DType(kind))} == kinds
