"""Write docs/reference/ from the code: `python tools/reference.py write|check`.

Commands from the command line's own tree, configuration from the settings' fields, errors from the one
table of reasons; techniques and the standard in tools/reference_masks.py. `check` fails when a page is not
what the code says.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from contracts import techniques  # noqa: E402
from contracts.errors import TRAITS  # noqa: E402
from exchange import config  # noqa: E402
from tools import reference_masks as masks  # noqa: E402
from tools.reference_masks import NOTE, row, table  # noqa: E402

FOLDER = ROOT / "docs" / "reference"
EXIT_CODES = {
    0: "done",
    1: "not confirmed: the user said no, nothing was done",
    2: "bad input or configuration",
    3: "not found",
    4: "not allowed to act",
    5: "refused by contract, policy or bounds",
    6: "wrong state or conflict",
    7: "try again later",
    8: "evidence does not verify",
    9: "our own fault",
    130: "interrupted",
}


def commands() -> str:
    """Every command with its arguments and options, as its own help says."""
    import typer

    from exchange.cli.main import app

    lines = ["# Commands", "", NOTE]
    lines += ["`--as NAME` and `--home FOLDER` may stand anywhere on the line. Exit codes: [errors](errors.md).", ""]
    for path, command in sorted(_leaves(typer.main.get_command(app), ("sluicegate",))):
        lines += [f"## {' '.join(path)}", "", inspect.cleandoc(command.help or ""), ""]
        rows = [_parameter(parameter) for parameter in command.params if parameter.name != "help"]
        if rows:
            lines += [*table("parameter", "what", "default"), *rows, ""]
    return "\n".join(lines).rstrip() + "\n"


def _leaves(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    inner = getattr(command, "commands", None)
    if inner is None or (command.invoke_without_command and len(path) > 1):
        yield path, command
    for name, found in (inner or {}).items():
        yield from _leaves(found, (*path, name))


def _parameter(parameter: Any) -> str:
    option = parameter.param_type_name == "option"
    name = ", ".join(parameter.opts) if option else (parameter.metavar or parameter.name).upper()
    default = parameter.default
    value = getattr(default, "value", default)
    shown = "required" if parameter.required else "" if value in (None, False, "", [], ()) or callable(value) else value
    return row(f"`{name}`", getattr(parameter, "help", "") or "", f"`{shown}`" if shown != "" else "")


def configuration() -> str:
    """Every setting with its type and default."""
    lines = [
        "# Configuration",
        "",
        NOTE,
        "TOML. A key that is not known is refused. Paths are relative to the file.",
        "",
    ]
    for title, kind in (
        ("exchange.toml", config.ExchangeSettings),
        ("gateway.toml", config.GatewaySettings),
        ("gateway.toml: datasets.NAME", config.DatasetSettings),
        ("profiles/NAME.toml", config.Profile),
        ("token, in gateway.toml and profiles", config.TokenSettings),
        ("policy, in exchange.toml and gateway.toml", config.PolicySettings),
    ):
        lines += [f"## {title}", "", inspect.getdoc(kind) or "", "", *table("setting", "type", "default")]
        for info in msgspec.structs.fields(kind):
            default = "required" if info.required else _plain(info.default)
            lines.append(row(f"`{info.name}`", f"`{_spelled(info.type)}`", f"`{default}`" if default else ""))
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _plain(value: object) -> str:
    if value in (None, (), {}, "") or isinstance(value, msgspec.Struct):
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _spelled(kind: Any) -> str:
    text = kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)
    inner = getattr(kind, "__metadata__", None)
    if inner is not None:
        described = [meta.description for meta in inner if meta.description]
        limits = [
            f"{word} {getattr(meta, name):,}"
            for meta in inner
            for name, word in (("ge", "from"), ("gt", "above"), ("le", "to"), ("lt", "below"))
            if getattr(meta, name) is not None
        ]
        return ", ".join([*(described or [kind.__origin__.__name__]), *limits])
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    for noise in ("pathlib.", "typing.", "exchange.config.", "connectors.sources.base."):
        text = text.replace(noise, "")
    return text


def errors() -> str:
    """Every reason with its code, exit code, meaning and remedy."""
    lines = ["# Errors and exit codes", "", NOTE]
    lines += ["Over gRPC the reason is `google.rpc.ErrorInfo.reason` in the domain `sluicegate`, each finding a field"]
    lines += ["violation; over Flight it is the first word of the text; on the command line the last line.", ""]
    lines += [*table("exit code", "meaning"), *(row(code, text) for code, text in EXIT_CODES.items()), ""]
    lines += table("reason", "gRPC code", "exit code", "retry", "what happened", "what to do")
    for reason, traits in TRAITS.items():
        retry = "yes" if traits.retryable else ""
        lines.append(row(f"`{reason}`", traits.code, traits.exit_code, retry, traits.meaning, traits.remedy))
    return "\n".join(lines).rstrip() + "\n"


def parameters(kind: type[msgspec.Struct]) -> list[str]:
    """The table of a technique's parameters; empty where it has none."""
    fields, hints = msgspec.structs.fields(kind), get_type_hints(kind, include_extras=True)
    lines = table("parameter", "allowed", "default") if fields else []
    for info in fields:
        default = "required" if info.required else _plain(info.default)
        lines.append(row(f"`{info.name}`", _allowed(hints[info.name]), f"`{default}`" if default else ""))
    return lines


WORDS = {"str": "a text", "int": "a number", "float": "a number", "bool": "true or false"}


def _allowed(hint: Any) -> str:
    """What a parameter may be: as described where it is, else its words, its own parameters or its type."""
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    described = [meta.description for part in parts for meta in getattr(part, "__metadata__", ()) if meta.description]
    found = described or [_type_allowed(part) for part in parts if part is not NoneType]
    return " or ".join(dict.fromkeys(found))


def _type_allowed(kind: Any) -> str:
    bare = getattr(kind, "__origin__", kind) if hasattr(kind, "__metadata__") else kind
    if get_origin(bare) is Literal:
        return ", ".join(f"`{word}`" for word in get_args(bare))
    if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
        inner = get_type_hints(bare, include_extras=True)
        return "{" + ", ".join(f"{name}: {_allowed(part)}" for name, part in inner.items()) + "}"
    return WORDS.get(getattr(bare, "__name__", ""), _spelled(bare))


PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands,
    "configuration.md": configuration,
    "errors.md": errors,
    "standard.md": masks.standard_page,
    "techniques.md": masks.techniques_page,
    **{
        f"techniques/{name}.md": partial(masks.technique_page, name, parameters)
        for name in (*techniques.ALL, *techniques.WHOLE)
    },
}


def main(verb: str) -> int:
    """Write the pages, or count those that are stale."""
    stale = 0
    for name, page in PAGES.items():
        path, text = FOLDER / name, page()
        if verb == "write":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif not path.is_file() or path.read_text() != text:
            print(f"stale: docs/reference/{name}; run make reference", file=sys.stderr)
            stale += 1
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
