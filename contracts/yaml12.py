"""YAML 1.2 core schema, read safely: plain JSON values, a line for every path, hard limits.

PyYAML speaks YAML 1.1, where `no` is false and `2024-01-31` a date. Here its parser only supplies
events; this module decides what they mean, in one pass and with bounded work: the limits are checked
while reading, before anything large can be built. What JSON cannot carry exactly is refused, so that
every document that loads has a canonical form (`contracts.canonical`).

What a scalar means stands in `contracts.yaml_scalars`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import yaml

from contracts import yaml_scalars
from contracts.errors import Reason, SluicegateError, Violation
from contracts.yaml_scalars import CORE, NotAllowed

MAX_BYTES: Final = 2 * 1024 * 1024
MAX_DEPTH: Final = 32
MAX_ALIASES: Final = 100
# With aliases expanded: 100 aliases of aliases could otherwise stand for 10^60 values. Every 100
# characters of a text count as one value more, or 100 aliases of one long text would fill the memory.
MAX_NODES: Final = 100_000
_TEXT_PER_NODE: Final = 100
MAX_VIOLATIONS: Final = 200

Json = Any  # dict[str, Json] | list[Json] | str | int | float | bool | None
Path = tuple[str | int, ...]
DOCUMENT: Final = "(document)"  # the path of what is wrong with the file as a whole

_NAMING_KEYS = ("property", "username", "name", "role")  # what tells the items of ODCS lists apart


@dataclass(frozen=True, slots=True)
class _Node:
    """One value with its line, its children, and how large and deep it is with aliases expanded."""

    value: Json
    line: int
    children: Mapping[str | int, _Node] = field(default_factory=dict)
    size: int = 1
    height: int = 1


@dataclass(frozen=True, slots=True)
class Located:
    """A loaded document: `value` as plain JSON values, and the lines it came from.

    `name` is what error messages call the file.
    """

    value: Json
    name: str
    _root: _Node = field(repr=False)

    def line(self, path: str | Path) -> int | None:
        """Line (1-based) of the value at a path, of its nearest ancestor where it is absent.

        Paths are tuples of keys and indexes, or written with dots. In a written path an item of a
        list is named by its index or by its `property`, `name` or `role`, as violations do:
        `customProperties.purposes.transport-planning.fields.sex`. None for an empty document.
        """
        node = self._root
        rest: Sequence[str | int] = path.split(".") if isinstance(path, str) else path
        while rest:
            child, used = _step(node, rest, joined=isinstance(path, str))
            if child is None:
                break
            node, rest = child, rest[used:]
        return node.line


def write_path(document: Json, path: Path) -> str:
    """A path in words: items of lists by name where they have one, `value` of a property left out."""
    words: list[str] = []
    at = document
    for key in path:
        named = isinstance(at, Mapping) and "property" in at and key == "value"
        at = _child(at, key)
        if not named:
            words.append(_item_name(at) or str(key) if isinstance(key, int) else key)
    return ".".join(words)


def _child(value: Json, key: str | int) -> Json:
    try:
        return value[key]
    except (KeyError, IndexError, TypeError):
        return None


def _item_name(item: Json) -> str | None:
    if isinstance(item, Mapping):
        for key in _NAMING_KEYS:
            if isinstance(item.get(key), str):
                return str(item[key])
    return None


def _step(node: _Node, rest: Sequence[str | int], *, joined: bool) -> tuple[_Node | None, int]:
    """The child that the next words name, and how many words that took: keys may contain dots."""
    custom_property = isinstance(node.value, Mapping) and {"property", "value"} <= node.value.keys()
    if joined and custom_property and rest[0] not in node.children:
        return node.children["value"], 0
    for used in range(len(rest), 0, -1) if joined else (1,):
        key = ".".join(str(word) for word in rest[:used]) if joined else rest[0]
        if (child := node.children.get(key)) is not None:
            return child, used
        if joined and isinstance(node.value, list):
            for index, item in enumerate(node.value):
                if _item_name(item) == key or str(index) == key:
                    return node.children[index], used
    return None, 0


def load(raw: bytes, *, name: str = "contract") -> Located:
    """Read one YAML 1.2 document.

    Raises TOO_LARGE above 2 MiB, CONTRACT_INVALID for anything else: not UTF-8, not YAML, empty,
    more than one document, deeper than 32 levels, more than 100 aliases, more than 100,000 values
    once aliases are expanded, a `%YAML 1.1` directive, a foreign tag, a merge key, a key that is not a
    string or comes twice, NaN or infinity, an integer beyond 2^53 - 1, a lone surrogate.
    """
    if len(raw) > MAX_BYTES:
        raise SluicegateError(
            Reason.TOO_LARGE,
            f"{name}: a document has at most {MAX_BYTES} bytes; this one has more",
            metadata={"limit": str(MAX_BYTES), "found": str(len(raw))},
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        _refuse(name, "not UTF-8 text", line, "NOT_UTF8", "save the file as UTF-8")
    reader = _Reader(name)
    try:
        root = reader.document(iter(yaml.parse(text, Loader=_PARSER)))
    except yaml.YAMLError as error:
        _refuse(
            name,
            f"not YAML: {_problem(error)}",
            _line_of(error, text),
            "NOT_YAML",
            "check indentation, quotes and brackets there",
        )
    if violations := reader.violations(root.value):
        raise SluicegateError(Reason.CONTRACT_INVALID, f"{name}: {_count(violations)} cannot be read", violations)
    return Located(root.value, name, root)


_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # 20 times faster where libyaml was built in


def _count(violations: Sequence[Violation]) -> str:
    return "1 value" if len(violations) == 1 else f"{len(violations)} values"


def _problem(error: yaml.YAMLError) -> str:
    return str(getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable")


def _line_of(error: yaml.YAMLError, text: str) -> int | None:
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        return int(mark.line) + 1
    position = getattr(error, "position", None)
    return None if position is None else text.count("\n", 0, int(position)) + 1


def _refuse(name: str, message: str, line: int | None, code: str, hint: str = "") -> NoReturn:
    where = name if line is None else f"{name}, line {line}"
    raise SluicegateError(
        Reason.CONTRACT_INVALID, f"{where}: {message}", (Violation(DOCUMENT, message, hint, line, code),)
    )


class _Reader:
    """Builds values from parser events. Limits stop at once; what is wrong with single values is
    collected, so that one run names them all."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.wrong: list[tuple[Path, Violation]] = []
        self.anchors: dict[str, _Node] = {}
        self.open_anchors: set[str] = set()
        self.aliases = 0
        self.nodes = 0
        self.path: list[str | int] = []

    def document(self, events: Iterator[yaml.Event]) -> _Node:
        """The one document of the stream."""
        root: _Node | None = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    _refuse(
                        self.name,
                        "more than one document",
                        _line(event),
                        "DOCUMENTS",
                        "one contract per file: remove everything from the second '---' on",
                    )
                if event.version is not None and tuple(event.version) != (1, 2):
                    _refuse(
                        self.name,
                        "a %YAML directive of another version",
                        _line(event),
                        "VERSION",
                        "remove the directive: this is read as YAML 1.2",
                    )
                root = self._node(next(events), events, 1)
        if root is None:
            _refuse(self.name, "the file is empty", None, "EMPTY", "a contract is an ODCS document, see examples/")
        return root

    def _node(self, event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> _Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        self._count(_weight(event), depth, _line(event))
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            self.open_anchors.add(anchor)
        if isinstance(event, yaml.ScalarEvent):
            node = _Node(self._scalar(event), _line(event), size=_weight(event))
        elif isinstance(event, yaml.SequenceStartEvent):
            self._container_tag(event, "seq")
            node = self._sequence(event, events, depth)
        else:
            self._container_tag(event, "map")
            node = self._mapping(event, events, depth)
        if anchor is not None:
            self.open_anchors.discard(anchor)
            self.anchors[anchor] = node
        return node

    def _alias(self, event: yaml.AliasEvent, depth: int) -> _Node:
        self.aliases += 1
        if self.aliases > MAX_ALIASES:
            _refuse(self.name, f"more than {MAX_ALIASES} aliases", _line(event), "ALIASES", "write the values out")
        if event.anchor in self.open_anchors:
            _refuse(self.name, "an alias inside its own anchor", _line(event), "ALIASES", "write the value out")
        target = self.anchors.get(str(event.anchor))
        if target is None:
            _refuse(self.name, "an alias without an anchor before it", _line(event), "ALIASES", "write the value out")
        self._count(target.size, depth + target.height - 1, _line(event))
        return _Node(target.value, _line(event), target.children, target.size, target.height)

    def _count(self, nodes: int, depth: int, line: int) -> None:
        self.nodes += nodes
        if depth > MAX_DEPTH:
            _refuse(self.name, f"nested deeper than {MAX_DEPTH} levels", line, "DEPTH", "flatten it")
        if self.nodes > MAX_NODES:
            _refuse(
                self.name,
                f"more than {MAX_NODES} values, aliases expanded",
                line,
                "VALUES",
                "split the contract; an alias counts as what it stands for",
            )

    def _sequence(self, start: yaml.Event, events: Iterator[yaml.Event], depth: int) -> _Node:
        items: list[_Node] = []
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            self.path.append(len(items))
            items.append(self._node(event, events, depth + 1))
            self.path.pop()
        return _Node(
            [item.value for item in items],
            _line(start),
            dict(enumerate(items)),
            1 + sum(item.size for item in items),
            1 + max((item.height for item in items), default=0),
        )

    def _mapping(self, start: yaml.Event, events: Iterator[yaml.Event], depth: int) -> _Node:
        children: dict[str | int, _Node] = {}
        keys = 0
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._key(event, events, depth)
            keys += _weight(event)
            if key in children:
                self._wrong(
                    f"the key '{key}' comes twice; it is first in line {children[key].line}",
                    _line(event),
                    "DUPLICATE_KEY",
                    "keep one of them",
                )
            self.path.append(key)
            node = self._node(next(events), events, depth + 1)
            self.path.pop()
            # The key's line: what a reader looks for, and where a value that spans lines begins.
            children[key] = _Node(node.value, _line(event), node.children, node.size, node.height)
        return _Node(
            {str(key): child.value for key, child in children.items()},
            _line(start),
            children,
            1 + keys + sum(child.size for child in children.values()),
            1 + max((child.height for child in children.values()), default=0),
        )

    def _key(self, event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> str:
        node = self._node(event, events, depth + 1)
        if isinstance(node.value, str):
            if node.value == "<<" and isinstance(event, yaml.ScalarEvent) and event.implicit[0]:
                self._wrong("a merge key '<<': YAML 1.2 has none", _line(event), "MERGE_KEY", "write the values out")
            return node.value
        kind = kind_of(node.value)
        self._wrong(
            f"a key must be a string; this one is {kind}",
            _line(event),
            "KEY_TYPE",
            "put it in quotes" if isinstance(node.value, int | float | None) else "write a word",
        )
        return f"(line {_line(event)})"

    def _container_tag(self, event: Any, expected: str) -> None:
        if event.tag not in (None, "!", CORE + expected):
            refusal = yaml_scalars.unknown_tag(event.tag)
            self._wrong(refusal.message, _line(event), refusal.code, refusal.hint)

    def _scalar(self, event: yaml.ScalarEvent) -> Json:
        try:
            if event.tag not in (None, "!"):
                return yaml_scalars.tagged(event.tag, event.value)
            quoted = event.tag == "!" or not event.implicit[0]
            return yaml_scalars.text(event.value) if quoted else yaml_scalars.plain(event.value)
        except NotAllowed as refusal:
            self._wrong(refusal.message, _line(event), refusal.code, refusal.hint)
            return None

    def _wrong(self, message: str, line: int, code: str, hint: str) -> None:
        if len(self.wrong) < MAX_VIOLATIONS:
            self.wrong.append((tuple(self.path), Violation(DOCUMENT, message, hint, line, code)))

    def violations(self, document: Json) -> tuple[Violation, ...]:
        """What is wrong with single values, their paths written in the words of the finished document."""
        return tuple(
            Violation(write_path(document, path) or DOCUMENT, found.message, found.hint, found.line, found.code)
            for path, found in self.wrong
        )


def _weight(event: yaml.Event) -> int:
    return 1 + len(getattr(event, "value", "")) // _TEXT_PER_NODE


def _line(event: yaml.Event) -> int:
    return int(event.start_mark.line) + 1  # type: ignore[union-attr]


def kind_of(value: Json) -> str:
    """What a value is, in words: `a string`, `an integer`, `null`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    kinds = ((int, "an integer"), (float, "a number"), (str, "a string"), (list, "a list"), (Mapping, "a map"))
    return next((word for kind, word in kinds if isinstance(value, kind)), type(value).__name__)
