"""Reading documentation: its code blocks, the commands in them, and the real command line's parser."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exchange.cli.main import GLOBAL, hoisted
from exchange.cli.main import commands as all_commands

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
TUTORIAL = DOCS / "tutorial.md"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ENDS_COMMAND = re.compile(r"[();<>|&]+")
_DEFAULT = re.compile(r"\$\{\w+:-([^}]*)\}")
PROGRAM = "sluicegate"


@dataclass(frozen=True)
class Block:
    """One fenced block of a page: its language, its text, and the line that it begins on."""

    language: str
    text: str
    line: int


def pages() -> list[Path]:
    """README and every page of the documentation."""
    return [README, *sorted(DOCS.rglob("*.md"))]


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [Block(found[1], found[2], text.count("\n", 0, found.start()) + 1) for found in _FENCE.finditer(text)]


def prose(text: str) -> str:
    """A page without its fenced blocks, line for line."""
    return _FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)


def commands(script: str) -> Iterator[list[str]]:
    """The words of every `sluicegate ...` in a shell script, without redirections and the like.

    `${NAME:-value}` counts as its value; other variables stay as they are."""
    for line in _DEFAULT.sub(r"\1", script.replace("\\\n", " ")).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        lexer.commenters = "#"
        words = list(lexer)
        for start, word in enumerate(words):
            first = start == 0 or _ENDS_COMMAND.fullmatch(words[start - 1]) is not None
            if word == PROGRAM and first:
                yield _command(words[start + 1 :])


def _command(words: Sequence[str]) -> list[str]:
    taken: list[str] = []
    for position, word in enumerate(words):
        if _ENDS_COMMAND.fullmatch(word):
            # `2> file`: the number before the sign is no argument.
            if word.startswith(">") and taken and taken[-1].isdigit() and position:
                taken.pop()
            break
        taken.append(word)
    return taken


def parse(arguments: Sequence[str]) -> str:
    """Parse a command line with the real parser, and run nothing; the command's name (`contract lint`).

    Raises the parser's own error for an unknown command, a missing argument or a value not allowed.
    """
    command: Any = all_commands()
    name, words, context, path = PROGRAM, hoisted(arguments), None, []
    while True:
        context = command.make_context(name, words, parent=context)
        left = [*context._protected_args, *context.args]
        if not hasattr(command, "commands") or (command.invoke_without_command and not left):
            return " ".join(path)
        name, command, words = command.resolve_command(context, left)
        path.append(name)


def known(words: Sequence[str]) -> str:
    """What is wrong with a mention of a command in running text (`contract lint --output`): an unknown
    command or option. Empty when nothing is; arguments may be left out there."""
    command: Any = all_commands()
    options = _options(command)
    left = hoisted(words)
    while len(left) > 1 and left[0] in GLOBAL:
        left = left[2:]
    while hasattr(command, "commands"):
        left = [word for word in left if word not in GLOBAL]
        if not left or left[0].startswith("-"):
            break
        word = left.pop(0)
        if word not in command.commands:
            return f"there is no command {word!r} here; there are {', '.join(command.commands)}"
        command = command.commands[word]
        options |= _options(command)
    unknown = [word for word in left if word.startswith("-") and word.partition("=")[0] not in options]
    return f"it has no option {', '.join(unknown)}" if unknown else ""


def _options(command: Any) -> set[str]:
    found = {"-h", "--help"}
    for parameter in command.params:
        found.update((*parameter.opts, *parameter.secondary_opts))
    return found
