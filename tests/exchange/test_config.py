"""Configuration is read strictly: what is unknown, of another type or out of range is named, with what is near."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from connectors.keys import MasterKey
from contracts.envelope import SigningKey
from contracts.errors import Reason, SluicegateError
from exchange import config, keyfiles
from exchange.config import DatasetSettings, ExchangeSettings, GatewaySettings, Profile, TokenSettings
from tests.halls import refused

GATEWAY = 'gateway = "g"\nparty = "p"\nsubject = "g"\n'
PROFILE = 'party = "p"\nsubject = "a@p.example"\nendpoint = "localhost:7450"\n'


def written(folder: Path, text: str | bytes, name: str = "some.toml") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def wrong(path: Path, kind: type) -> SluicegateError:
    with pytest.raises(SluicegateError) as caught:
        config.load(path, kind)
    assert caught.value.reason is Reason.CONFIG_INVALID
    assert str(path) in caught.value.message
    return caught.value


def test_everything_has_a_default_for_the_exchange(tmp_path: Path) -> None:
    settings = config.load(written(tmp_path, ""), ExchangeSettings)
    assert settings.listen == "127.0.0.1:7450"
    assert settings.tls_key == tmp_path / "tls" / "key.pem"
    assert settings.database == f"sqlite:///{tmp_path}/exchange.db"


def test_paths_are_relative_to_their_file(tmp_path: Path) -> None:
    text = PROFILE + 'ca = "../ca.pem"\ntrust = "/pinned/trust.yaml"\n[token]\nfile = "../token"\n'
    (tmp_path / "profiles").mkdir()
    profile = config.load(written(tmp_path / "profiles", text), Profile)
    assert profile.ca == tmp_path / "ca.pem"
    assert profile.trust == Path("/pinned/trust.yaml")
    assert profile.token.file == tmp_path / "token"


@pytest.mark.parametrize(
    ("database", "expected"),
    [
        ("sqlite:///exchange.db", "sqlite:///{folder}/exchange.db"),
        ("sqlite:///../exchange.db", "sqlite:///{parent}/exchange.db"),
        ("sqlite:////var/exchange.db", "sqlite:////var/exchange.db"),
        ("postgresql://me@db.example/x", "postgresql://me@db.example/x"),
    ],
)
def test_a_database_file_is_relative_too(tmp_path: Path, database: str, expected: str) -> None:
    settings = config.load(written(tmp_path, f'database = "{database}"'), ExchangeSettings)
    assert settings.database == expected.format(folder=tmp_path, parent=tmp_path.parent)


def test_unknown_keys_are_all_named_with_the_nearest(tmp_path: Path) -> None:
    text = """
    lisen = "127.0.0.1:1"
    workerz = 3
    [policy]
    engin = "opa"
    """
    error = wrong(written(tmp_path, text), ExchangeSettings)
    assert {(each.path, each.hint) for each in error.violations} == {
        ("lisen", "did you mean 'listen'?"),
        ("workerz", "did you mean 'workers'?"),
        ("policy.engin", "did you mean 'engine'?"),
    }


def test_unknown_keys_in_tables_of_tables_are_named_too(tmp_path: Path) -> None:
    text = GATEWAY + '[datasets.visits]\npath = "v.parquet"\nformat = "parquet"\nseperator = ";"\n'
    error = wrong(written(tmp_path, text), GatewaySettings)
    assert [(each.path, each.hint) for each in error.violations] == [
        ("datasets.visits.seperator", "did you mean 'separator'?")
    ]


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        (ExchangeSettings, "workers = 0", "workers"),
        (ExchangeSettings, "workers = 2.5", "workers"),
        (ExchangeSettings, 'workers = "16"', "workers"),
        (ExchangeSettings, "max_deadline = -1", "max_deadline"),
        (ExchangeSettings, "calls_per_minute = 0", "calls_per_minute"),
        (ExchangeSettings, 'listen = "127.0.0.1"', "listen: Expected host:port"),
        (ExchangeSettings, 'listen = "http://127.0.0.1:80"', "listen: Expected host:port"),
        (ExchangeSettings, 'log_level = "loud"', "log_level"),
        (ExchangeSettings, "tls_key = 7", "tls_key: Expected a path"),
        (ExchangeSettings, 'tls_key = ""', "tls_key: Expected a path"),
        (ExchangeSettings, 'tls_key = "a\\u0000b"', "tls_key: Expected a path"),
        (ExchangeSettings, '[policy]\nengine = "opa"', "policy"),
        (ExchangeSettings, '[policy]\nurl = "https://opa.example"', "policy"),
        (ExchangeSettings, "[policy]\ntimeout = 0", "policy.timeout"),
        (ExchangeSettings, "unsafe_plaintext = 1", "unsafe_plaintext"),
        (GatewaySettings, 'party = "p"\nsubject = "g"', "gateway"),
        (GatewaySettings, GATEWAY + "slots = 100000", "slots"),
        (GatewaySettings, GATEWAY + 'content_hash = "md5"', "content_hash"),
        (GatewaySettings, GATEWAY + '[datasets.d]\npath = "p"\nformat = "xlsx"', "datasets"),
        (GatewaySettings, GATEWAY + '[datasets.d]\npath = "p"\nformat = "csv"\nregister = "r"', "datasets.d.register"),
        (GatewaySettings, GATEWAY + '[datasets.d]\npath = "p"\nformat = "csv"\nseparator = ";;"', "separator"),
        (Profile, 'party = "p"\nsubject = "s"\nendpoint = ""', "endpoint"),
        (Profile, PROFILE + '[token]\nfile = "a"\ncommand = ["b"]', "one of file, command and issuer_key"),
        (Profile, PROFILE + '[token]\nissuer_key = "k.jwk"', "issuer and issuer_key go together"),
        (Profile, PROFILE + '[token]\nissuer = "https://i"', "issuer and issuer_key go together"),
        (Profile, PROFILE + "timeout = 0", "timeout"),
    ],
)
def test_values_that_are_not_allowed(tmp_path: Path, kind: type, text: str, says: str) -> None:
    assert says in wrong(written(tmp_path, text), kind).message


@pytest.mark.parametrize(
    "raw",
    [b"listen = ", b"\xff\xfe", b"a = 1\na = 2", b"[a]\n[a]", b"x = " + b"[" * 5000, b"#" * (config.MAX_FILE + 1)],
    ids=["cut", "binary", "twice", "table twice", "deep", "large"],
)
def test_what_is_no_toml(tmp_path: Path, raw: bytes) -> None:
    wrong(written(tmp_path, raw), ExchangeSettings)


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    assert "sluicegate init" in wrong(tmp_path / "exchange.toml", ExchangeSettings).message
    (tmp_path / "folder").mkdir()
    wrong(tmp_path / "folder", ExchangeSettings)


NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True)
DATASETS = st.dictionaries(
    NAMES,
    st.builds(
        DatasetSettings,
        path=NAMES.map(lambda name: Path("/data") / name),
        format=st.sampled_from(["parquet", "csv", "ndjson", "arrow"]),
        separator=st.sampled_from([",", ";", "\t", "|"]),
        columns=st.dictionaries(NAMES, st.sampled_from(["string", "int64"]), max_size=2),
        null_values=st.lists(NAMES, max_size=2).map(tuple),
    ),
    max_size=3,
)
GATEWAYS = st.builds(
    GatewaySettings,
    gateway=NAMES,
    party=NAMES,
    subject=NAMES,
    listen=st.just("127.0.0.1:1") | st.just("[::1]:65535"),
    trust=st.just(Path("/t.yaml")),
    tls_certificate=st.just(Path("/c.pem")),
    max_silence=st.integers(1, 86_400),
    datasets=DATASETS,
    token=st.just(TokenSettings()) | st.just(TokenSettings(command=("get", "token"))),
    unsafe_plaintext=st.booleans(),
)


@given(settings=GATEWAYS)
def test_what_is_written_is_what_is_read(tmp_path_factory: pytest.TempPathFactory, settings: GatewaySettings) -> None:
    folder = tmp_path_factory.mktemp("g", numbered=True)
    path = written(folder, config.dump(settings))
    read = config.load(path, GatewaySettings)
    assert config.load(written(folder, config.dump(read), "again.toml"), GatewaySettings) == read
    for name in ("gateway", "listen", "trust", "max_silence", "datasets", "unsafe_plaintext"):
        assert getattr(read, name) == getattr(settings, name)


def test_a_change_is_whole_or_not_at_all(tmp_path: Path) -> None:
    path = written(tmp_path, GATEWAY)
    config.change(path, GatewaySettings, lambda value: value.update(slots=3))
    assert config.load(path, GatewaySettings).slots == 3
    before = path.read_bytes()
    with refused(Reason.CONFIG_INVALID):
        config.change(path, GatewaySettings, lambda value: value.update(slots="many"))
    with refused(Reason.CONFIG_INVALID):
        config.change(path, GatewaySettings, lambda value: value.update(slot=3))
    assert path.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == [path.name]


def test_a_file_that_is_wrong_already_is_not_changed(tmp_path: Path) -> None:
    path = written(tmp_path, GATEWAY + "slotz = 1\n")
    with refused(Reason.CONFIG_INVALID):
        config.change(path, GatewaySettings, lambda value: value.pop("slotz"))
    assert "slotz" in path.read_text()


def test_new_settings_are_never_written_over_others(tmp_path: Path) -> None:
    profile = Profile(party="p", subject="s", endpoint="localhost:1")
    config.create(tmp_path / "profiles" / "p.toml", profile)
    assert config.load(tmp_path / "profiles" / "p.toml", Profile) == profile
    with refused(Reason.ALREADY_EXISTS):
        config.create(tmp_path / "profiles" / "p.toml", profile)
    with refused(Reason.CONFIG_INVALID):
        config.create(tmp_path / "profiles" / "q.toml", Profile(party="p", subject="s", endpoint="nowhere"))
    assert [each.name for each in (tmp_path / "profiles").iterdir()] == ["p.toml"]


# --- secrets


@pytest.fixture
def private(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    return folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_key_is_written_for_its_owner_alone(tmp_path: Path) -> None:
    key = SigningKey.from_seed(b"k" * 32)
    path = tmp_path / "new" / "a.jwk"
    keyfiles.write_key(path, key)
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert keyfiles.read_key(path).kid == key.kid


def test_a_key_is_never_overwritten(private: Path) -> None:
    path = private / "a.jwk"
    keyfiles.write_key(path, SigningKey.from_seed(b"a" * 32))
    before = path.read_bytes()
    with refused(Reason.ALREADY_EXISTS):
        keyfiles.write_key(path, SigningKey.from_seed(b"b" * 32))
    assert path.read_bytes() == before


def test_a_link_is_not_followed_when_a_key_is_written(private: Path, tmp_path: Path) -> None:
    (private / "a.jwk").symlink_to(tmp_path / "elsewhere")
    with refused(Reason.ALREADY_EXISTS):
        keyfiles.write_key(private / "a.jwk", SigningKey.from_seed(b"a" * 32))
    assert not (tmp_path / "elsewhere").exists()


def test_an_open_folder_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    with refused(Reason.CONFIG_UNSAFE):
        keyfiles.write_key(shared / "a.jwk", SigningKey.from_seed(b"a" * 32))
    assert mode(shared) == 0o755
    assert not list(shared.iterdir())


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o660, 0o644, 0o666, 0o601])
def test_a_loose_secret_is_refused(private: Path, bits: int) -> None:
    path = private / "a.jwk"
    keyfiles.write_key(path, SigningKey.from_seed(b"a" * 32))
    path.chmod(bits)
    with pytest.raises(SluicegateError) as caught:
        keyfiles.read_key(path)
    assert caught.value.reason is Reason.CONFIG_UNSAFE
    assert "chmod 600" in caught.value.message


@pytest.mark.parametrize("bits", [0o755, 0o710, 0o701, 0o750])
def test_a_secret_in_a_loose_folder_is_refused(private: Path, bits: int) -> None:
    path = private / "a.jwk"
    keyfiles.write_key(path, SigningKey.from_seed(b"a" * 32))
    private.chmod(bits)
    with pytest.raises(SluicegateError) as caught:
        keyfiles.read_key(path)
    assert "chmod 700" in caught.value.message


@pytest.mark.parametrize("bits", [0o755, 0o711, 0o750])
def test_what_is_no_key_may_lie_where_others_can_only_look(tmp_path: Path, bits: int) -> None:
    """They can neither read a file of 0600 there nor put another in its place."""
    ordinary = tmp_path / "ordinary"
    ordinary.mkdir(mode=0o700)
    keyfiles.write_private(path := ordinary / "passphrase", b"correct horse")
    ordinary.chmod(bits)
    keyfiles.check_private(path, folder_shared=True)
    path.chmod(0o640)
    with refused(Reason.CONFIG_UNSAFE):
        keyfiles.check_private(path, folder_shared=True)


@pytest.mark.parametrize("bits", [0o775, 0o757, 0o720, 0o702, 0o1777])
def test_nothing_secret_lies_where_others_can_put_another(tmp_path: Path, bits: int) -> None:
    writable = tmp_path / "writable"
    writable.mkdir(mode=0o700)
    keyfiles.write_private(writable / "passphrase", b"correct horse")
    writable.chmod(bits)
    with pytest.raises(SluicegateError, match=r"CONFIG_UNSAFE: .*chmod go-w"):
        keyfiles.check_private(writable / "passphrase", folder_shared=True)


def test_what_is_no_regular_file_is_refused(private: Path) -> None:
    (private / "folder").mkdir()
    os.mkfifo(private / "pipe", 0o600)
    for name in ("folder", "pipe"):
        with refused(Reason.CONFIG_UNSAFE):
            keyfiles.check_private(private / name)
    with refused(Reason.CONFIG_INVALID):
        keyfiles.check_private(private / "missing")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b'{"kty": "RSA"}',
        b'{"kty": "OKP", "crv": "Ed25519", "x": "AA"}',
        b"[" * 9999,
    ],
)
def test_what_is_no_private_key_is_not_quoted(private: Path, raw: bytes) -> None:
    keyfiles.write_private(private / "a.jwk", raw)
    with pytest.raises(SluicegateError) as caught:
        keyfiles.read_key(private / "a.jwk")
    assert caught.value.reason is Reason.CONFIG_INVALID
    assert "does not hold an Ed25519 private key" in caught.value.message


def test_a_private_file_is_replaced_whole(private: Path) -> None:
    path = private / "paper.json"
    keyfiles.write_private_file(path, b"one")
    keyfiles.write_private_file(path, b"two")
    assert (path.read_bytes(), mode(path)) == (b"two", 0o600)
    assert [each.name for each in private.iterdir()] == ["paper.json"]
    with refused(Reason.SINK_FAILED):
        keyfiles.write_private_file(private / "missing" / "paper.json", b"one")


def test_what_is_loopback() -> None:
    assert all(map(config.loopback, ("localhost:1", "127.0.0.1:7450", "[::1]:7450")))
    assert not any(map(config.loopback, ("0.0.0.0:1", "localhost.example:1", "127.0.0.1.example:1", "[::]:1", "")))


def test_a_master_key_comes_from_its_command_where_one_is_set(private: Path) -> None:
    path = private / "master.key"
    key = MasterKey.create(path, os.urandom)
    words = (sys.executable, "-c", f"print(open({str(path)!r}).read())")
    settings = GatewaySettings(gateway="g-1", party="p", subject="g@p", master_key=private / "none.key")
    for chosen in (replace(settings, master_key_command=words), replace(settings, master_key=path)):
        assert config.read_master(chosen).extract(b"salt") == key.extract(b"salt")
    with refused(Reason.CONFIG_INVALID):
        config.read_master(settings)
