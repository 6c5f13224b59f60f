"""The command line as such: help, global options, completion, pipes, exit codes, what a terminal is not shown."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import TRAITS, Reason, SluicegateError, Violation
from exchange.cli.main import app, hoisted, main
from exchange.cli.output import Form, json_text, listing, plain, shortened, show_error
from tests.cli.commands import CONTRACT, ROOT, Commands, on_a_terminal, process

HEAVY = ("grpc", "polars", "sqlalchemy", "pyarrow", "alembic", "rich", "cryptography", "google.protobuf", "regopy")
# What the product promises to its users, by name.
PROMISED = [
    "init",
    "up",
    "contract",
    "attack",
    "effectiveness",
    "publish",
    "search",
    "show",
    "request",
    "requests",
    "approve",
    "reject",
    "agreements",
    "suspend",
    "resume",
    "terminate",
    "pull",
    "ticket",
    "receipts",
    "verify",
    "evidence",
    "ledger",
    "token",
    "party",
    "key",
    "backup",
    "restore",
    "config",
    "profile",
    "source",
    "sign",
    "gateway",
    "trust",
    "cancel",
    "reveal",
]


def every_command(command: typer.main.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:  # type: ignore[name-defined]
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from every_command(inner, (*path, name))


COMMANDS = list(every_command(typer.main.get_command(app)))


def test_every_promised_command_is_there() -> None:
    assert {path[0] for path in COMMANDS if path} == set(PROMISED)
    assert {("contract", "lint"), ("contract", "test"), ("evidence", "export"), ("config", "check")} <= set(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_explains_itself(path: tuple[str, ...], option: str, still: Commands) -> None:
    said = still(*path, option)
    assert said.out.startswith(f"Usage: sluicegate {'[OPTIONS] COMMAND' if not path else ' '.join(path)}")
    assert said.err == ""
    described = said.out.split("\n\n")[1].strip()
    assert described, "no description"
    # A command's own line in the list of its group is not cut off.
    assert not re.search(r"^  [a-z]+ .*\.\.\.$", said.out, re.MULTILINE)


def test_help_loads_nothing_heavy() -> None:
    """What makes it answer in a moment: cold imports are nearly all of its time."""
    code = (
        "import sys\n"
        "from exchange.cli.main import run\n"
        "assert run(['--help']) == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr.strip() == "[]"


def test_without_a_command_it_says_what_there_is(still: Commands) -> None:
    bare = process(home=still.home, code=2)
    assert "Usage: sluicegate" in bare.out + bare.err


def test_the_version(still: Commands) -> None:
    assert re.fullmatch(r"sluicegate \d+\.\d+\.\d+\n", still("--version").out)


@pytest.mark.parametrize(
    "words",
    [["nonsense"], ["show"], ["ledger", "--limit", "0"], ["ledger", "--limit", "x"], ["search", "--output", "xml"]],
)
def test_a_line_that_cannot_be_read(words: list[str], still: Commands) -> None:
    said = still(*words, code=2)
    assert "Error" in said.err
    assert said.out == ""


def test_global_options_may_stand_anywhere(still: Commands) -> None:
    for words in (
        ["--as", "steward", "profile", "show"],
        ["profile", "--as", "steward", "show"],
        ["profile", "show", "--as=steward"],
    ):
        assert "steward@health.example" in still(*words).out


WORDS = st.lists(
    st.sampled_from(["pull", "a-1", "--out", "x", "--output", "json", "-y", "--home-less", "--assume"]), max_size=6
)


@given(before=WORDS, after=WORDS, name=st.sampled_from(["steward", "a b", "--home"]), joined=st.booleans())
def test_hoisting_moves_the_global_options_and_nothing_else(
    before: list[str], after: list[str], name: str, joined: bool
) -> None:
    option = [f"--as={name}"] if joined else ["--as", name]
    assert hoisted([*before, *option, *after]) == [*option, *before, *after]


def test_nothing_is_hoisted_past_the_end_of_options() -> None:
    assert hoisted(["search", "--", "--as", "x"]) == ["search", "--", "--as", "x"]
    assert hoisted(["search", "--as"]) == ["search", "--as"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, still: Commands) -> None:
    said = still("--show-completion", shell)
    assert "_SLUICEGATE_COMPLETE" in said.out
    assert "sluicegate" in said.out
    still("--show-completion", "tcsh", code=2)


def completed(home: Path, line: str) -> set[str]:
    """What bash would offer at the end of that line."""
    words = {"_SLUICEGATE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    return set(process(home=home, environment=words).out.split())


def test_the_shell_is_told_commands_and_profiles(still: Commands) -> None:
    assert {"contract", "config"} == completed(still.home, "sluicegate con")
    assert {"lint", "test", "strip"} <= completed(still.home, "sluicegate contract ")
    assert {"planner"} == completed(still.home, "sluicegate --as pl")


@pytest.mark.parametrize(
    "line",
    [
        "sluicegate search --as pl",
        "sluicegate search hospital --limit 3 --as pl",
        "sluicegate evidence --as pl",
        "sluicegate evidence export t-1 -o FILE --as pl",
        "sluicegate profile use pl",
    ],
)
def test_the_shell_is_told_profiles_at_every_position(still: Commands, line: str) -> None:
    assert {"planner"} == completed(still.home, line)


def test_the_shell_is_told_the_global_options_everywhere(still: Commands, tmp_path: Path) -> None:
    assert {"--as", "--home"} <= completed(still.home, "sluicegate evidence export -")
    assert "--as" in completed(still.home, "sluicegate search --a")
    nowhere = tmp_path / "nowhere"
    assert completed(nowhere, "sluicegate search --as pl") == set()
    for line in (f"sluicegate --home {still.home} search --as pl", f"sluicegate search --home {still.home} --as pl"):
        assert {"planner"} == completed(nowhere, line), "of the home that the line names"


def test_a_reader_that_goes_away_is_no_error(still: Commands) -> None:
    """`sluicegate ... | head -1`, with far more output than a pipe holds."""
    for number in range(300):
        still.home.joinpath("profiles", f"p{number}.toml").write_text(
            f'party = "p"\nsubject = "{"s" * 200}"\nendpoint = "localhost:1"\n'
        )
    line = f"{sys.executable} -m exchange.cli.main profile list --output json | head -c 10; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        text=True,
        env=os.environ | {"SLUICEGATE_HOME": str(still.home), "PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert done.stdout.split()[-1] == "0"
    assert done.stderr == ""


def test_in_a_pipe_there_is_no_colour_and_no_frame(still: Commands) -> None:
    said = process("profile", "list", home=still.home)
    assert said.out.splitlines()[0] == "\tPROFILE\tPARTY\tSUBJECT\tENDPOINT"
    assert not set(said.out) & {"\x1b", "─", "│"}


def test_on_a_terminal_there_is_a_table(still: Commands) -> None:
    seen = on_a_terminal(still.home, "profile", "list")
    assert "─" in seen
    assert all(name in seen for name in ("admin", "auditor", "steward", "dpo", "analyst", "planner"))


def test_long_work_shows_its_stage_on_a_terminal_and_nothing_in_a_pipe(
    still: Commands, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "passphrase").write_text("correct horse battery")
    (tmp_path / "passphrase").chmod(0o600)
    test = ("contract", "test", str(CONTRACT), "--data", str(data), "--purpose", "transport-planning")
    for words, told in (
        (test, ("purpose transport-planning: reading and masking every row", "measuring 4,000 rows", "without each")),
        (("backup", str(tmp_path / "b"), "--passphrase-file", str(tmp_path / "passphrase")), ("backing up exchange/",)),
    ):
        seen = on_a_terminal(still.home, *words)
        assert [stage for stage in told if stage not in seen] == []
        (tmp_path / "b").unlink(missing_ok=True)
        assert process(*words, home=still.home).err == ""


def test_names_cannot_drive_a_terminal(still: Commands) -> None:
    """A profile whose subject is full of what terminals obey."""
    evil = "red\\u001b[31mred\\u009b2Jgone\\u202egnp.exe\\u0007\\r\\nnext\\u2028line"
    still.home.joinpath("profiles", "evil.toml").write_text(
        f'party = "p"\nsubject = "{evil}"\nendpoint = "localhost:1"\n'
    )
    seen = on_a_terminal(still.home, "profile", "list")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", seen)
    assert "red[31mred2Jgonegnp.exe" in re.sub(r"\s+", "", shown)
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e\u2028]", shown)
    for output in ([], ["--output", "json"]):
        said = still("profile", "list", *output)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2028]", said.out)
    assert "\x1b" in json.loads(still("profile", "list", "--output", "json").out)[-3]["subject"]


@given(text=st.text())
def test_what_is_shown_is_printable_and_stays_on_its_line(text: str) -> None:
    assert plain(text) == plain(plain(text))
    assert all(letter == " " or letter.isprintable() or letter.isspace() for letter in plain(text))
    assert len(plain(text).splitlines()) <= 1
    for size in (2, 10):
        assert len(shortened(text, size)) <= size


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=12,
    )
)
def test_json_is_the_same_value_without_what_a_terminal_obeys(value: object) -> None:
    text = json_text(value)
    assert json.loads(text) == value
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\ufeff]", text)


def test_an_error_says_what_where_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    error = SluicegateError(
        Reason.CONTRACT_INVALID,
        "visits.yaml: 2 rules are broken",
        (Violation("fields.sex", "no mask\x1b[2J", "add one", line=7, code="MASK"), Violation("a", "b")),
        {"requestId": "the-id", "violationsOmitted": "3"},
    )
    show_error(error, as_json=False)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [
        "error: visits.yaml: 2 rules are broken",
        "  - line 7: fields.sex: no mask?[2J (add one)",
        "  - a: b",
        "  - and 3 more",
        f"  CONTRACT_INVALID: {TRAITS[Reason.CONTRACT_INVALID].meaning}. "
        f"What to do: {TRAITS[Reason.CONTRACT_INVALID].remedy}.",
        "  request id the-id",
    ]
    show_error(error, as_json=True)
    told_json = json.loads(capsys.readouterr().err)["error"]
    assert (told_json["reason"], told_json["violations"][0]["line"]) == ("CONTRACT_INVALID", 7)
    assert told_json["remedy"] == "mend what is listed, then run contract lint"


def test_errors_are_json_where_json_was_asked_for(still: Commands) -> None:
    for words in (["--output", "json"], ["--output=json"]):
        said = still("profile", "show", "nobody", *words, code=2)
        assert json.loads(said.err)["error"]["reason"] == "CONFIG_INVALID"
    said = still("search", "json", "--as", "nobody", code=2)
    assert said.err.startswith("error: ")


def test_an_unexpected_error_is_our_fault_and_quotes_nothing(
    still: Commands, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file where a folder should be, deep inside: nothing anticipates that."""
    from exchange import home

    def broken(self: object) -> tuple[str, ...]:
        raise RuntimeError("a secret value")

    monkeypatch.setattr(home.Home, "profiles", broken)
    said = still("profile", "list", code=9)
    assert "RuntimeError" in said.err
    assert "a secret value" not in said.err
    monkeypatch.setenv("SLUICEGATE_TRACE", "1")
    assert "a secret value" in still("profile", "list", code=9).err


def test_listings_of_nothing_are_empty_lists(capsys: pytest.CaptureFixture[str]) -> None:
    listing(Form.JSON, [], {"A": str})
    assert json.loads(capsys.readouterr().out) == []
    listing(Form.TABLE, [], {"A": str})
    assert capsys.readouterr().out == "A\n"


def test_main_exits(monkeypatch: pytest.MonkeyPatch, still: Commands) -> None:
    monkeypatch.setattr(sys, "argv", ["sluicegate", "--home", str(still.home), "profile", "list"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    with pytest.raises(SystemExit) as ended:
        main(["--home", str(still.home), "profile", "show", "nobody"])
    assert ended.value.code == 2


def test_an_interrupted_command_says_so(still: Commands) -> None:
    """Ctrl-C while it waits for an answer."""
    import signal
    import socket

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        path = still.home / "profiles" / "slow.toml"
        text = (still.home / "profiles" / "steward.toml").read_text()
        path.write_text(text.replace("localhost:7450", f"localhost:{listening.getsockname()[1]}"))
        process = subprocess.Popen(
            [sys.executable, "-m", "exchange.cli.main", "token", "--as", "slow"],
            env=os.environ | {"SLUICEGATE_HOME": str(still.home), "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        listening.settimeout(30)
        connection, _ = listening.accept()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        connection.close()
    assert process.returncode == 130
    assert b"Traceback" not in err
