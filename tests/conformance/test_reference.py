"""The reference pages say what the code does: regenerated here, and compared."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
import typer

from contracts import techniques
from contracts.errors import TRAITS, Reason
from exchange import config
from exchange.cli.main import app

ROOT = Path(__file__).resolve().parents[2]


def tool(name: str) -> ModuleType:
    """A script of tools/, as a module."""
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REFERENCE = tool("reference")


@pytest.mark.parametrize("name", REFERENCE.PAGES)
def test_a_page_is_what_the_code_says(name: str) -> None:
    path = ROOT / "docs" / "reference" / name
    assert path.read_text() == REFERENCE.PAGES[name](), f"docs/reference/{name} is stale: run make reference"


def test_no_other_page_stands_beside_them() -> None:
    folder = ROOT / "docs" / "reference"
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.md")} == set(REFERENCE.PAGES)


def test_a_stale_page_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REFERENCE, "FOLDER", tmp_path / "reference")
    assert REFERENCE.main("check") == len(REFERENCE.PAGES)
    assert REFERENCE.main("write") == 0
    assert REFERENCE.main("check") == 0
    (tmp_path / "reference" / "errors.md").write_text("# Errors\n")
    assert REFERENCE.main("check") == 1


def headings(name: str) -> set[str]:
    return set(re.findall(r"^## (.*)$", (ROOT / "docs" / "reference" / name).read_text(), re.MULTILINE))


def leaves(command: typer.main.Command, path: str) -> set[str]:  # type: ignore[name-defined]
    inner = getattr(command, "commands", None)
    if inner is None:
        return {path}
    own = {path} if command.invoke_without_command else set()
    return own.union(*(leaves(one, f"{path} {name}") for name, one in inner.items()))


def test_nothing_public_is_left_out() -> None:
    assert headings("commands.md") == leaves(typer.main.get_command(app), "sluicegate")
    known = {*techniques.ALL, *techniques.WHOLE}
    listed = (ROOT / "docs" / "reference" / "techniques.md").read_text()
    assert all(f"](techniques/{name}.md)" in listed and f"techniques/{name}.md" in REFERENCE.PAGES for name in known)
    errors = (ROOT / "docs" / "reference" / "errors.md").read_text()
    assert all(f"| `{reason}` |" in errors for reason in Reason)
    settings = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    for kind in config._Settings.__subclasses__():
        assert all(f"| `{info.name}` |" in settings for info in msgspec.structs.fields(kind)), kind


def test_every_exit_code_is_explained() -> None:
    assert {traits.exit_code for traits in TRAITS.values()} | {0, 1, 130} == set(REFERENCE.EXIT_CODES)


PLAIN = {
    *("listen", "audience", "database", "standard", "policy", "engine", "token", "log_level", "unsafe_plaintext"),
    *("tls_certificate", "tls_key", "grant_key", "checkpoint_key", "signing_key", "holder_key", "master_key"),
    *("party", "subject", "endpoint", "ca", "trust", "timeout", "state", "spool", "datasets", "format"),
}


def test_every_setting_is_spoken_of() -> None:
    """A setting whose name does not say all about it is explained in its table's own words."""
    for kind in config._Settings.__subclasses__():
        for info in msgspec.structs.fields(kind):
            explained = f"`{info.name}`" in (kind.__doc__ or "")
            assert explained or info.name in PLAIN, f"{kind.__name__}.{info.name}"


def test_the_reasons_on_the_wire_are_those_of_the_code() -> None:
    written = (ROOT / "proto" / "exchange" / "v1" / "error_reason.proto").read_text()
    assert written == tool("proto").error_reasons(), "error_reason.proto is stale: run make proto"


def test_the_generated_enumeration_has_every_reason() -> None:
    from exchange.v1 import error_reason_pb2

    names = set(error_reason_pb2.ErrorReason.keys())
    assert names == {f"ERROR_REASON_{name}" for name in ["UNSPECIFIED", *Reason.__members__]}
