"""YAML 1.2 core schema, its limits, and the lines of what it loads."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from contracts import yaml12
from contracts.canonical import canonical
from contracts.errors import Reason, SluicegateError, Violation


def value(text: str) -> object:
    return yaml12.load(text.encode()).value


def error(raw: bytes, reason: Reason = Reason.CONTRACT_INVALID) -> SluicegateError:
    with pytest.raises(SluicegateError) as caught:
        yaml12.load(raw, name="bad.yaml")
    assert caught.value.reason is reason
    assert caught.value.message.startswith("bad.yaml")
    return caught.value


def violation(raw: bytes) -> Violation:
    (found,) = error(raw).violations
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-31", "2024-01-31"),
        ("2024-01-31T12:00:00Z", "2024-01-31T12:00:00Z"),
        ("12:30:00", "12:30:00"),
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("true", True),
        ("FALSE", False),
        ("tRUE", "tRUE"),
        ("~", None),
        ("NULL", None),
        ("", None),
        ("017", 17),
        ("0o17", 15),
        ("0x1F", 31),
        ("-0", 0),
        ("+12", 12),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-1.5e-3", -0.0015),
        ("9007199254740991", 2**53 - 1),
        ("'9007199254740993'", "9007199254740993"),
        ("'true'", "true"),
        ('"null"', "null"),
        ("!!str 12", "12"),
        ("!!float 12", 12.0),
        ("! 12", "12"),
        ("张三", "张三"),
    ],
)
def test_scalars_by_the_core_schema(text: str, expected: object) -> None:
    found = value(f"a: {text}")
    assert found == {"a": expected}
    assert type(found["a"]) is type(expected)  # type: ignore[index]


@pytest.mark.parametrize(
    ("raw", "line", "code"),
    [
        (b"a: 1\nb: [1, 2\nc: 3\n", 3, "NOT_YAML"),
        (b"a: 1\n\tb: 2\n", 2, "NOT_YAML"),
        (b"a: 1\nb: '\x07'\n", 2, "NOT_YAML"),
        (b"a: 1\nb: \xff\xfe\n", 2, "NOT_UTF8"),
        ("a: 1".encode("utf-16"), 1, "NOT_UTF8"),
        (b"", None, "EMPTY"),
        (b"# only a comment\n", None, "EMPTY"),
        (b"a: 1\n---\nb: 2\n", 2, "DOCUMENTS"),
        (b"%YAML 1.1\n---\na: no\n", 1, "VERSION"),
        (b"a: 1\nb: 2\na: 3\n", 3, "DUPLICATE_KEY"),
        (b"a: 1\n'a': 2\n", 2, "DUPLICATE_KEY"),
        (b"a: 1\nb: .nan\n", 2, "NOT_FINITE"),
        (b"a: -.inf\n", 1, "NOT_FINITE"),
        (b"a: 9007199254740992\n", 1, "INTEGER_RANGE"),
        (b"a: -9007199254740992\n", 1, "INTEGER_RANGE"),
        (b"a: 0x20000000000000\n", 1, "INTEGER_RANGE"),
        (b"a: " + b"9" * 5000 + b"\n", 1, "INTEGER_RANGE"),
        (b"a: 1e999\n", 1, "NUMBER_RANGE"),
        (b"a: &b {c: 1}\nd:\n  <<: *b\n", 3, "MERGE_KEY"),
        (b"a:\n  1: b\n", 2, "KEY_TYPE"),
        (b"? [a]\n: b\n", 1, "KEY_TYPE"),
        (b"a: !!python/object/apply:os.system [id]\n", 1, "TAG"),
        (b"a: !!binary aGk=\n", 1, "TAG"),
        (b"a: !!timestamp 2024-01-31\n", 1, "TAG"),
        (b"a: !!bool yes\n", 1, "TAG"),
        (b"a: !custom {b: 1}\n", 1, "TAG"),
        (b"a: &a [*a]\n", 1, "ALIASES"),
        (b"a: *nobody\n", 1, "ALIASES"),
    ],
)
def test_what_is_refused_and_where(raw: bytes, line: int | None, code: str) -> None:
    found = violation(raw)
    assert (found.line, found.code) == (line, code)
    assert found.message
    assert found.hint


def test_everything_wrong_with_single_values_is_named_at_once() -> None:
    found = error(b"a: .nan\nb: 9007199254740993\na: 2\nc:\n- name: x\n  v: !!set {d}\n")
    assert [(item.path, item.line, item.code) for item in found.violations] == [
        ("a", 1, "NOT_FINITE"),
        ("b", 2, "INTEGER_RANGE"),
        ("(document)", 3, "DUPLICATE_KEY"),
        ("c.x.v", 6, "TAG"),
    ]


def test_a_100_megabyte_file_is_refused_before_it_is_read() -> None:
    raw = b"a: 1\n" * (20 * 1024 * 1024)
    assert len(raw) == 100 * 1024 * 1024
    found = error(raw, Reason.TOO_LARGE)
    assert found.metadata == {"limit": str(yaml12.MAX_BYTES), "found": str(len(raw))}
    error(b" " * (yaml12.MAX_BYTES + 1), Reason.TOO_LARGE)


def bomb(levels: int, width: int) -> bytes:
    lines = [f"l0: &l0 [{','.join(['x'] * width)}]"]
    lines += [f"l{n}: &l{n} [{','.join([f'*l{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines).encode()


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (bomb(10, 9), "VALUES"),  # 10^9 values from 81 aliases
        (b"a: &a 1\nb: [" + b",".join([b"*a"] * 101) + b"]", "ALIASES"),
        (b"a: &a '" + b"x" * 1_000_000 + b"'\nb: [" + b",".join([b"*a"] * 100) + b"]", "VALUES"),
        (b"- x\n" * 100_001, "VALUES"),
        (b"[" * 1_000_000, "DEPTH"),
        (b"{a: " * 400_000, "DEPTH"),
        (b"- " * 1_000_000, "DEPTH"),
        (b"a: &a " + b"[" * 20 + b"1" + b"]" * 20 + b"\nb: " + b"[" * 20 + b"*a" + b"]" * 20, "DEPTH"),
    ],
)
def test_bombs_are_stopped_while_reading(raw: bytes, code: str) -> None:
    assert violation(raw).code == code


def test_limits_are_reached_exactly() -> None:
    assert value("a: &a 1\nb: [" + ",".join(["*a"] * 100) + "]")["b"] == [1] * 100  # type: ignore[index]
    deep = "[" * yaml12.MAX_DEPTH + "]" * yaml12.MAX_DEPTH
    assert value(deep)
    assert violation(f"[{deep}]".encode()).code == "DEPTH"


def test_lines_by_path() -> None:
    located = yaml12.load(
        b"schema:\n  - name: visits\n    properties:\n"
        b"      - {name: a}\n      - name: b.c\n        classification: open\n"
        b"customProperties:\n  - property: purposes\n    value:\n      p:\n        fields: {x: 1}\n"
    )
    assert located.line("schema.visits.properties.b.c.classification") == 6
    assert located.line("schema.0.properties.0.name") == 4
    assert located.line(("schema", 0, "properties", 1, "classification")) == 6
    assert located.line("customProperties.purposes.p.fields.x") == 11
    assert located.line("customProperties.purposes.p.absent.deeper") == 10  # nearest part that is there
    assert located.line("nowhere") == 1


@given(st.data())
def test_every_written_path_leads_back_to_its_line(data: st.DataObject) -> None:
    """`write_path` and `Located.line` are inverse as far as lines go, whatever the names."""
    names = st.text("ab.", min_size=1, max_size=3)
    items = data.draw(
        st.lists(st.tuples(names, st.dictionaries(names, st.integers(0, 9))), max_size=4, unique_by=lambda i: i[0])
    )
    document = {"schema": [{"name": name, "more": more} for name, more in items]}
    located = yaml12.load(yaml.safe_dump(document).encode())
    for index, (_, more) in enumerate(items):
        for key in more:
            path = ("schema", index, "more", key)
            assert located.line(yaml12.write_path(document, path)) is not None
            if "." not in key and "." not in items[index][0]:
                assert located.line(yaml12.write_path(document, path)) == located.line(path)


# Without control characters, line separators and unassigned ones, which YAML does not take as they are.
printable = st.characters(exclude_categories=["Cs", "Cc", "Cn", "Zl", "Zp"], exclude_characters="\ufeff")
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(printable, max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(printable, max_size=6), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_every_json_document_loads_as_itself(document: object) -> None:
    """YAML 1.2 is a superset of JSON, and what loads has a canonical form."""
    loaded = yaml12.load(json.dumps(document, ensure_ascii=False).encode()).value
    assert loaded == document
    assert canonical(loaded) == canonical(document)


@given(st.binary(max_size=200) | st.text("{}[]:-,&*!|>'\"#%@ \nab1~", max_size=60).map(str.encode))
def test_any_bytes_load_or_are_refused(raw: bytes) -> None:
    """Nothing but our own errors, and everything that loads can be signed."""
    refusal = None
    try:
        canonical(yaml12.load(raw).value)
    except SluicegateError as error:
        refusal = error
    assert refusal is None or (refusal.reason is Reason.CONTRACT_INVALID and refusal.violations)


@given(st.text("{}[]:-,&*!'\"# \nab1~", max_size=40).map(str.encode))
def test_the_slow_parser_sees_what_the_fast_one_sees(raw: bytes) -> None:
    def outcome(parser: object) -> object:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(yaml12, "_PARSER", parser)
            try:
                return yaml12.load(raw).value
            except SluicegateError as refusal:
                return refusal.violations[0].code

    fast, slow = outcome(yaml.CSafeLoader), outcome(yaml.SafeLoader)
    # The two differ in which syntax error they meet first, and rarely in what they take for one.
    assert fast == slow or "NOT_YAML" in (fast, slow)
