"""What the command line prints: tables for people, JSON for programs, errors that say what to do.

Everything that came from elsewhere is shown without control characters: a party's name must not be
able to move the cursor or colour the terminal.
"""

from __future__ import annotations

import contextlib
import json
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from contracts.errors import SluicegateError


class Form(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"


Output = Annotated[Form, typer.Option("--output", help="table for people, json for programs.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Most results to show.")]


# Control, format, private, unassigned and lone surrogate characters; and the two that break lines beside \n.
_UNSHOWN = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")
_SPACES = "\n\r\t\u2028\u2029"


def plain(text: object) -> str:
    """The text without control, format or private characters; line breaks become spaces."""
    shown = "" if text is None else str(text)
    if shown.isascii() and shown.isprintable():
        return shown
    return "".join(
        " " if letter in _SPACES else letter
        for letter in shown
        if letter in _SPACES or unicodedata.category(letter) not in _UNSHOWN
    )


def shortened(text: object, size: int) -> str:
    """At most that many characters of the text, shown as it is cut."""
    shown = plain(text)
    return shown if len(shown) <= size else shown[: size - 1].rstrip() + "…"


def console(*, stderr: bool = False) -> Console:
    """A rich console; without colour in a pipe."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, soft_wrap=not sys.stdout.isatty())


def json_text(value: object) -> str:
    """The value as JSON that a terminal can be shown: what is no letter or sign is escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    if text.isascii():  # JSON itself escapes the control characters of ASCII, but for DEL
        return text.replace("\x7f", "\\u007f")
    return "".join(
        letter if letter == "\n" or unicodedata.category(letter) not in _UNSHOWN else json.dumps(letter)[1:-1]
        for letter in text
    )


def show_json(value: object) -> None:
    """One JSON document on standard output."""
    print(json_text(value))


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "", empty: str = "nothing found"
) -> None:
    """A table on standard output; tab-separated in a pipe, where a title stands in a line of its own."""
    lines = [[plain(cell) for cell in row] for row in rows]
    if not lines and sys.stdout.isatty():
        note(empty)
        return
    if title:
        print(f"\n{plain(title)}")
    if not sys.stdout.isatty():
        for line in [[plain(column) for column in columns], *lines]:
            print("\t".join(line))
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for number, column in enumerate(columns):
        # Short names and numbers stay whole: longer ones and text make room for them.
        whole = all(len(line[number]) <= 24 and " " not in line[number] for line in lines)
        table.add_column(Text(plain(column)), no_wrap=whole, overflow="ellipsis" if whole else "fold")
    for line in lines:
        table.add_row(*(Text(cell) for cell in line))
    console().print(table)


def listing(
    form: Form,
    items: Iterable[Any],
    columns: Mapping[str, Any],
    *,
    empty: str = "nothing found",
) -> None:
    """Views as a table (`columns`: heading -> function of a view) or as a JSON array."""
    found = list(items)
    if form is Form.JSON:
        show_json([item.as_json() for item in found])
        return
    show_table(list(columns), [[cell(item) for cell in columns.values()] for item in found], empty=empty)


def facts(form: Form, value: Mapping[str, object], *, title: str = "") -> None:
    """One thing, as lines `name  value` or as a JSON object."""
    if form is Form.JSON:
        show_json(value)
        return
    if title:
        print(plain(title))
    width = max((len(name) for name in value), default=0)
    for name, item in value.items():
        shown = ", ".join(plain(part) for part in item) if isinstance(item, list | tuple) else plain(item)
        print(_folded(f"  {name:<{width}}  ", shown))


def _folded(head: str, text: str) -> str:
    """The text behind its head, folded to the width of a terminal; as it is in a pipe."""
    if not sys.stdout.isatty():
        return f"{head}{text}"
    import shutil
    import textwrap

    room = max(40, shutil.get_terminal_size().columns)
    indent = " " * len(head)
    folded = textwrap.wrap(
        text, room, initial_indent=head, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(folded) or head


def say(text: str) -> None:
    """One plain line on standard output."""
    print(plain(text))


def note(text: str) -> None:
    """A remark for a person: on standard error, so that pipes stay clean. What was said before comes first, also
    where both go into one pipe."""
    with contextlib.suppress(BrokenPipeError):  # `run` is told when it ends
        sys.stdout.flush()
    print(plain(text), file=sys.stderr)


def show_error(error: SluicegateError, *, as_json: bool) -> None:
    """The error on standard error: what, every finding, what to do next."""
    if as_json:
        value = {
            "reason": error.reason.value,
            "message": error.message,
            "violations": [
                {"path": v.path, "line": v.line, "message": v.message, "hint": v.hint, "code": v.code}
                for v in error.violations
            ],
            "metadata": dict(error.metadata),
            "remedy": error.remedy,
        }
        print(json_text({"error": value}), file=sys.stderr)
        return
    note(f"error: {error.message}")
    for violation in error.violations:
        note(f"  - {violation}")
    omitted = error.metadata.get("violationsOmitted")
    if omitted:
        note(f"  - and {omitted} more")
    note(f"  {error.reason.value}: {error.traits.meaning}. What to do: {error.remedy}.")
    if "requestId" in error.metadata:
        note(f"  request id {error.metadata['requestId']}")
