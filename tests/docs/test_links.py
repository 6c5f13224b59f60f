"""The pages point at what is there: links, files, functions and commands."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PROGRAM, ROOT, blocks, commands, known, pages, parse, prose

ARCHITECTURE = DOCS / "architecture.md"

_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
_PATH = re.compile(r"[\w.-]+(/[\w.-]+)*/?")
_TOP = ("contracts", "connectors", "exchange", "examples", "tests", "tools", "proto", "docs", "benchmarks")

PAGES = [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages()]


def anchor(heading: str) -> str:
    """The name that a heading can be linked by."""
    plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(page: Path) -> None:
    text = prose(page.read_text())
    for target in _LINK.findall(text):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, part = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.name} links to {target}, which is not there"
        assert ROOT in (found, *found.parents), f"{page.name} links out of the repository: {target}"
        if part:
            anchors = {anchor(heading) for heading in _HEADING.findall(prose(found.read_text()))}
            assert part in anchors, f"{page.name} links to {target}; {found.name} has no such heading"


def mentions(text: str) -> Iterator[str]:
    """What a page says in code spans."""
    yield from (span.strip() for _, span in _CODE.findall(prose(text)) if span.strip())


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def defines(path: Path, names: Sequence[str]) -> bool:
    """Whether a module defines a function, a class, or a method of one."""
    body: list[ast.stmt] = _tree(path).body
    for name in names:
        found = [
            node
            for node in body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name
        ]
        if not found:
            return False
        body = found[0].body
    return True


@pytest.mark.parametrize("page", PAGES)
def test_functions_named_are_there(page: Path) -> None:
    for mention in mentions(page.read_text()):
        path, colon, function = mention.partition(".py:")
        if not colon or "/" not in path or function.startswith(":"):  # a test is named file::test
            continue
        file = ROOT / f"{path}.py"
        assert file.is_file(), f"{page.name} names {mention}; there is no such file"
        assert defines(file, function.split(".")), f"{page.name} names {mention}; the file does not define it"


@pytest.mark.parametrize("page", PAGES)
def test_files_and_modules_named_are_there(page: Path) -> None:
    for mention in mentions(page.read_text()):
        if _PATH.fullmatch(mention) and mention.partition("/")[0] in _TOP and "/" in mention:
            assert (ROOT / mention).exists(), f"{page.name} names {mention}, which is not there"
        elif re.fullmatch(rf"({'|'.join(_TOP[:3])})(\.(?!toml\b)\w+)+", mention):
            assert any(_importable(mention)), f"{page.name} names {mention}, which is no module, nor in one"


def _importable(dotted: str) -> Iterator[bool]:
    """Whether it is a module, or something that a module on the way defines."""
    words = dotted.split(".")
    if words[:2] == ["exchange", "v1"]:  # a name of the wire
        protocol = "".join(file.read_text() for file in (ROOT / "proto").rglob("*.proto"))
        yield re.search(rf"^(service|message|enum) {words[-1]} ", protocol, re.MULTILINE) is not None
    for cut in range(len(words), 0, -1):
        module = ROOT.joinpath(*words[:cut])
        if cut == len(words):
            yield module.is_dir() or module.with_suffix(".py").is_file()
        elif module.with_suffix(".py").is_file():
            yield defines(module.with_suffix(".py"), words[cut:])


def test_architecture_names_enough_to_be_worth_checking() -> None:
    found = list(mentions(ARCHITECTURE.read_text()))
    assert sum(".py:" in mention for mention in found) > 40
    assert {"pull", "open", "make", "begin", "report_receipt", "acknowledge"} <= {
        mention.rpartition(":")[2].rpartition(".")[2] for mention in found
    }


@pytest.mark.parametrize("page", PAGES)
def test_commands_named_exist(page: Path) -> None:
    text = page.read_text()
    for mention in mentions(text):
        if mention.split()[0] == PROGRAM:
            wrong = known([word for word in mention.split()[1:] if word not in ("...", "[OPTIONS]")])
            assert not wrong, f"{page.name} says `{mention}`: {wrong}"
    for block in blocks(text):
        if block.language in ("sh", "console"):
            for words in commands(block.text):
                assert parse(words), f"{page.name} says `{PROGRAM} {' '.join(words)}`"


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("pul a", "no command"),
        ("contract link f", "no command"),
        ("pull a --ot x", "no option"),
        ("key list --days 3", "no option"),
    ],
)
def test_a_wrong_mention_would_be_noticed(wrong: str, why: str) -> None:
    assert why in known(wrong.split())


@pytest.mark.parametrize(
    "right", ["pull", "contract lint --as x", "key list --output json", "--help", "party add --kind=company"]
)
def test_a_right_mention_passes(right: str) -> None:
    assert known(right.split()) == ""


def test_headings_are_linked_as_they_are_rendered() -> None:
    assert anchor("What `lint` checks, and how") == "what-lint-checks-and-how"
