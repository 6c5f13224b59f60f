"""init, up, profile, source, config, backup, restore, key new: without a running exchange."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from contracts.envelope import PublicKey
from exchange import config, keyfiles
from exchange.config import ExchangeSettings, GatewaySettings
from exchange.home import Home
from tests.cli.commands import CONTRACT, ROOT, Commands, process
from tests.cli.conftest import free_ports


@pytest.fixture
def empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(tmp_path / "home", capsys)


def test_init_makes_a_home_and_says_what_comes_next(empty: Commands) -> None:
    said = empty("init", "--port", "8450")
    assert said.out == f"{empty.home}\n"
    assert "profiles: admin, auditor, steward, dpo, analyst, planner" in said.err
    assert "next: sluicegate up" in said.err
    assert config.load(Home(empty.home).exchange, ExchangeSettings).listen == "127.0.0.1:8450"
    assert config.load(Home(empty.home).gateway("health-bureau-1"), GatewaySettings).listen == "127.0.0.1:8460"
    again = empty("init", code=6)
    assert "is not empty" in again.err


def test_what_is_said_comes_before_the_remarks_on_it_in_one_pipe_too(tmp_path: Path) -> None:
    """As in `sluicegate ... 2>&1 | less`, where standard output would wait for the end."""
    home = tmp_path / "home"
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("SLUICEGATE_", "PYTHONUNBUFFERED"))}
    done = subprocess.run(
        [sys.executable, "-m", "exchange.cli.main", "--home", str(home), "init", "--bare"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**plain, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert done.stdout.splitlines()[0] == str(home)
    assert "next: sluicegate up" in done.stdout.splitlines()[-1]


def test_init_bare_and_as_json(empty: Commands) -> None:
    made = empty("init", "--bare", "--output", "json").json
    assert made == {"home": str(empty.home), "profiles": ["admin", "auditor"], "trust": f"{empty.home}/trust.yaml"}
    assert not Home(empty.home).gateways()


def test_a_missing_home_says_what_to_do(empty: Commands) -> None:
    for words in (["search"], ["token"], ["profile", "show"], ["up"], ["publish", str(CONTRACT)]):
        said = empty(*words, code=2)
        assert "sluicegate init" in said.err, words
    assert not empty.home.exists()


def test_profiles_are_listed_shown_and_chosen(still: Commands) -> None:
    names = [row[1] for row in still("profile", "list").rows]
    assert names == ["admin", "analyst", "auditor", "dpo", "planner", "steward"]
    still("profile", "show", code=2)
    assert still("profile", "use", "planner").out == "planner\n"
    assert "planner@metro.example" in still("profile", "show").out
    listed = still("profile", "list", "--output", "json").json
    assert [each["name"] for each in listed if each["current"]] == ["planner"]
    said = still("profile", "use", "plannr", code=2)
    assert "did you mean 'planner'?" in said.err
    assert "steward@health.example" in still("profile", "show", "--as", "steward").out
    assert still("profile", "show", "dpo", "--output", "json").json["party"] == "health-bureau"


def test_a_profile_is_added_with_paths_from_here(
    still: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    still("key", "new", "mine/signing.jwk")
    words = ["profile", "add", "me", "--party", "metro-lines", "--subject", "me@metro.example"]
    words += ["--endpoint", "exchange.example:7450", "--trust", "home/trust.yaml", "--ca", "home/ca.pem"]
    said = still(*words, "--signing-key", "mine/signing.jwk", "--token-command", "get-token --for 'sluice gate'")
    assert said.out == "me\n"
    profile = Home(still.home).profile("me")
    assert profile.signing_key == tmp_path / "mine" / "signing.jwk"
    assert profile.trust == still.home / "trust.yaml"
    assert profile.token.command == ("get-token", "--for", "sluice gate")
    assert still(*words, code=6).err.startswith("error: there is a profile me")


@pytest.mark.parametrize(
    "more",
    [
        ["--token-command", "a", "--token-file", "b"],
        ["--issuer", "https://i.example"],
        ["--issuer-key", "k"],
    ],
)
def test_a_profile_gets_its_token_one_way(still: Commands, more: list[str]) -> None:
    words = ["profile", "add", "me", "--party", "p", "--subject", "s", "--endpoint", "e:1", "--trust", "t"]
    still(*words, *more, code=2)
    still("profile", "show", "me", code=2)


def test_a_profile_that_could_not_be_read_back_is_not_written(still: Commands) -> None:
    words = ["profile", "add", "me", "--party", "p", "--subject", "s", "--trust", "t", "--endpoint"]
    assert "endpoint" in still(*words, "nowhere", code=2).err
    still(*words[:2], "../me", *words[3:], "e:1", code=2)
    assert not list(still.home.parent.glob("me*"))


def test_a_source_is_bound_by_hand(still: Commands, data: Path, tmp_path: Path) -> None:
    assert still("source", "list").rows == []
    said = still("source", "bind", "hospital-visits", data)
    assert "from its next transfer on" in said.err
    (tmp_path / "m.jsonl").write_text("{}\n")
    still("source", "bind", "meters", tmp_path / "m.jsonl", "--gateway", "health-bureau-1")
    found = still("source", "list", "--output", "json").json
    listed = {each["dataset"]: (each["format"], each["path"]) for each in found}
    assert listed == {"hospital-visits": ("parquet", str(data)), "meters": ("ndjson", str(tmp_path / "m.jsonl"))}
    assert "there is no file" in still("source", "bind", "x", tmp_path / "missing.csv", code=2).err
    assert "parquet" in still("source", "bind", "x", data, "--format", "xlsx", code=2).err
    assert "health-bureau-1" in still("source", "bind", "x", data, "--gateway", "other", code=2).err
    still("source", "bind", "../x", data, code=2)
    still("source", "bind", "hospital-visits", data, "--register", "residents", code=2)
    still("source", "bind", "residents", data)
    still("source", "bind", "hospital-visits", data, "--register", "residents")
    found = still("source", "list", "--output", "json").json
    assert {each["dataset"]: each["register"] for each in found if each["register"]} == {"hospital-visits": "residents"}


def test_config_check(still: Commands) -> None:
    said = still("config", "check")
    assert {row[0] for row in said.rows} == {"weak"}
    (still.home / "profiles" / "keys" / "planner.holder.jwk").chmod(0o644)
    said = still("config", "check", code=2)
    assert said.rows[0][:2] == ["error", "profile planner"]
    assert "chmod 600" in said.rows[0][2]
    listed = still("config", "check", "--output", "json", code=2).json
    assert listed[0]["level"] == "error"
    with (still.home / "exchange" / "exchange.toml").open("a") as file:
        file.write("watcher = 3\n")
    assert "did you mean 'watchers'?" in still("config", "check", code=2).out


def test_a_key_is_made_shown_and_never_overwritten(still: Commands, tmp_path: Path) -> None:
    path = tmp_path / "keys" / "me.jwk"
    said = still("key", "new", path)
    public = PublicKey(x=json.loads(said.out)["x"])
    assert set(json.loads(said.out)) == {"kty", "crv", "x"}
    assert public.kid in said.err
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    still("key", "new", path, code=6)
    assert path.read_bytes() == before
    assert still("key", "show", path).out == said.out
    jwks = json.loads(still("key", "show", path, "--jwks").out)
    assert [key["kid"] for key in jwks["keys"]] == [public.kid]
    private = json.loads(before)["d"]
    assert private not in said.out + said.err + json.dumps(jwks)


def test_a_key_is_not_put_where_others_can_look(still: Commands, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o775)
    assert "chmod 700" in still("key", "new", shared / "me.jwk", code=2).err
    assert not list(shared.iterdir())
    assert stat.S_IMODE(shared.stat().st_mode) == 0o775


def test_an_ordinary_folder_does_for_a_passphrase_but_not_for_keys(still: Commands, tmp_path: Path) -> None:
    """0755, as a folder is unless one does something about it."""
    ordinary = tmp_path / "ordinary"
    ordinary.mkdir()
    ordinary.chmod(0o755)
    (ordinary / "passphrase").write_text("correct horse battery")
    (ordinary / "passphrase").chmod(0o600)
    still("backup", ordinary / "backup", "--passphrase-file", ordinary / "passphrase")
    said = still("key", "new", ordinary / "me.jwk", code=2).err
    assert "keep keys in a new one of their own" in said
    still("key", "new", ordinary / "keys" / "me.jwk")
    assert stat.S_IMODE((ordinary / "keys").stat().st_mode) == 0o700
    ordinary.chmod(0o777)
    assert "chmod go-w" in still("backup", tmp_path / "b", "--passphrase-file", ordinary / "passphrase", code=2).err


@pytest.mark.parametrize("raw", [b"", b"{}", b"\xff", b'{"kty": "RSA", "crv": "x", "x": "y"}', b"[1]"])
def test_what_is_no_key_is_not_shown(still: Commands, tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "k").write_bytes(raw)
    assert "does not hold an Ed25519 key" in still("key", "show", tmp_path / "k", code=2).err
    still("key", "show", tmp_path / "missing", code=2)


def test_backup_and_restore(still: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keyfiles.write_private(tmp_path / "secret" / "p", b"correct horse battery")
    keyfiles.write_private(tmp_path / "secret" / "q", b"incorrect horse battery")
    words = ("--passphrase-file", tmp_path / "secret" / "p")
    made = still("backup", tmp_path / "b", *words, "--output", "json").json
    assert made["bytes"] == (tmp_path / "b").stat().st_size
    assert made["outside"] == []
    still("backup", tmp_path / "b", *words, code=6)
    other = Commands(tmp_path / "other", capsys)
    wrong = other("restore", tmp_path / "b", "--passphrase-file", tmp_path / "secret" / "q", code=2)
    assert "nothing was restored" in wrong.err
    assert "horse" not in wrong.err
    assert other("restore", tmp_path / "b", *words, "--output", "json").json["files"] == made["files"]
    assert other("profile", "list").out == still("profile", "list").out
    (tmp_path / "secret" / "p").chmod(0o644)
    still("backup", tmp_path / "c", *words, code=2)


# --- up


def started(home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "exchange.cli.main", "up"],
        env=os.environ | {"SLUICEGATE_HOME": str(home), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(said: object, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not said():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture
def port(empty: Commands) -> int:
    """A home on free ports: the exchange's; the gateway has the tenth after it."""
    while True:
        base = free_ports(11)
        empty("init", "--port", base)
        return base


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_up_runs_until_it_is_told(empty: Commands, port: int, number: signal.Signals) -> None:
    process_up = started(empty.home)
    assert process_up.stderr is not None
    assert process_up.stderr.readline() == f"exchange ready at 127.0.0.1:{port}\n"
    assert process_up.stderr.readline() == f"health-bureau-1 ready at 127.0.0.1:{port + 10}\n"
    assert listens(port)
    assert "steward@health.example" in process("token", "--as", "steward", home=empty.home).out
    process_up.send_signal(number)
    out, err = process_up.communicate(timeout=30)
    assert (process_up.returncode, out, err) == (0, "", "ended\n")
    assert not listens(port)
    assert not listens(port + 10)


def test_up_hears_an_interrupt_in_the_background_too(empty: Commands, port: int) -> None:
    """Shells without job control start what runs behind `&` with interrupts ignored."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process_up = started(empty.home)
    finally:
        signal.signal(signal.SIGINT, before)
    assert process_up.stderr is not None
    process_up.stderr.readline()
    process_up.stderr.readline()
    process_up.send_signal(signal.SIGINT)
    try:
        assert process_up.wait(timeout=30) == 0
    finally:
        process_up.kill()
        process_up.communicate(timeout=30)


def test_what_up_started_does_not_outlive_it(empty: Commands, port: int) -> None:
    """Killed, it can tell nobody anything."""
    process_up = started(empty.home)
    assert process_up.stderr is not None
    process_up.stderr.readline()
    process_up.stderr.readline()
    process_up.kill()
    process_up.communicate(timeout=30)
    until(lambda: not listens(port) and not listens(port + 10))


def test_up_says_why_something_does_not_start(empty: Commands, port: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        said = empty.process("up", code=2)
    assert said.err.startswith("error: exchange did not start: ")
    assert f"cannot listen on 127.0.0.1:{port}" in said.err
    assert "exchange.log" in said.err
    assert "Traceback" not in said.err


def test_up_says_which_setting_is_wrong(empty: Commands, port: int) -> None:
    """The process knows: its reason, exit code and findings are those of the command."""
    empty.process("up", "--only", "nothing", code=3)
    with Home(empty.home).exchange.open("a") as file:
        file.write("worker = 3\nheart = 2\n")
    said = empty.process("up", code=2)
    assert said.err.startswith("error: exchange did not start: ")
    assert "  - worker: no such setting (did you mean 'workers'?)\n" in said.err
    assert "  - heart: no such setting" in said.err
    assert "CONFIG_INVALID: " in said.err
    assert str(empty.home / "logs" / "exchange.log") in said.err


def test_up_says_what_ended_a_process(empty: Commands, port: int) -> None:
    """Killed, it has no last words: what it logged before is not shown as if it were the reason."""
    process_up = started(empty.home)
    assert process_up.stderr is not None
    for _ in range(2):
        process_up.stderr.readline()
    process("token", "--as", "steward", home=empty.home)
    running = [path.name for path in Path("/proc").iterdir() if path.name.isdigit()]
    ours = [int(pid) for pid in running if _parent(pid) == process_up.pid]
    exchange = next(pid for pid in ours if b"exchange.toml" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(exchange, signal.SIGKILL)
    _, err = process_up.communicate(timeout=30)
    assert process_up.returncode == 7
    assert err.splitlines()[0] == (
        f"error: exchange ended by itself: signal 9 (SIGKILL) ended it (all that it said is in "
        f"{empty.home / 'logs' / 'exchange.log'})"
    )
    assert "{" not in err, "no line of its log"
    assert "then run sluicegate up again" in err


def _parent(pid: str) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except FileNotFoundError:  # it ended meanwhile
        return 0


def test_up_runs_only_what_is_there(empty: Commands, port: int) -> None:
    said = empty("up", "--only", "nothing", code=3)
    assert "exchange, health-bureau-1" in said.err
