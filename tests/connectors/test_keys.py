"""Keys: RFC 5869, files that are private, secrets that say nothing."""

from __future__ import annotations

import copy
import json
import os
import pickle
import sys
from pathlib import Path

import pytest

from connectors import commands
from connectors.keys import (
    AgreementSecrets,
    KeyRing,
    MasterKey,
    hkdf_expand,
    hkdf_extract,
    passing_secrets,
)
from contracts.errors import Reason, SluicegateError

KEY = bytes(range(32))
SALTS = {"sha256:a": b"a" * 32, "sha256:b": b"b" * 32, "lots": b"c" * 32}


def _ring(folder: Path) -> KeyRing:
    return KeyRing(MasterKey.create(folder / "keys" / "master.key", lambda count: KEY[:count]), SALTS.__getitem__)


@pytest.mark.parametrize(
    ("material", "salt", "info", "length", "prk", "okm"),
    [
        (
            "0b" * 22,
            "000102030405060708090a0b0c",
            "f0f1f2f3f4f5f6f7f8f9",
            42,
            "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            "".join(f"{byte:02x}" for byte in range(0x00, 0x50)),
            "".join(f"{byte:02x}" for byte in range(0x60, 0xB0)),
            "".join(f"{byte:02x}" for byte in range(0xB0, 0x100)),
            82,
            "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f"
            "09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
        ),
        (
            "0b" * 22,
            "",
            "",
            42,
            "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
)
def test_hkdf_gives_the_vectors_of_rfc_5869(
    material: str, salt: str, info: str, length: int, prk: str, okm: str
) -> None:
    extracted = hkdf_extract(bytes.fromhex(salt), bytes.fromhex(material))
    assert extracted.hex() == prk
    assert hkdf_expand(extracted, bytes.fromhex(info), length).hex() == okm


def test_hkdf_agrees_with_a_second_implementation() -> None:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    secrets = AgreementSecrets(hkdf_extract(SALTS["sha256:a"], KEY), "sha256:a")
    info = json.dumps(["sha256:a", "person", ""], separators=(",", ":")).encode()
    assert secrets.key("person") == HKDF(SHA256(), 32, SALTS["sha256:a"], info).derive(KEY).hex()


def test_hkdf_refuses_lengths_it_cannot_give() -> None:
    for length in (0, 8161):
        with pytest.raises(ValueError, match="8160"):
            hkdf_expand(KEY, b"", length)


def test_keys_differ_by_agreement_domain_and_period(tmp_path: Path) -> None:
    ring = _ring(tmp_path)
    one, other = ring.secrets("sha256:a"), ring.secrets("sha256:b")
    found = {
        one.key("person"),
        one.key("household"),
        one.key("person", "week"),
        other.key("person"),
        one.order_seed.hex(),
    }
    assert len(found) == 5
    assert all(len(key) == 64 and set(key) <= set("0123456789abcdef") for key in found)
    assert one.key("person") == ring.secrets("sha256:a").key("person")
    assert ring.order_seed("sha256:a") == one.order_seed != other.order_seed


def test_lots_are_the_recipients_whatever_the_agreement(tmp_path: Path) -> None:
    ring = _ring(tmp_path)
    first, second = (ring.secrets(digest, lots="lots") for digest in ("sha256:a", "sha256:b"))
    lot = first.lot("noise", "age")
    assert second.lot("noise", "age") == first.of_release("rel-a").lot("noise", "age") == lot
    others = {first.lot("noise"), first.lot("age", "noise"), first.lot("noiseage"), first.key("lot"), lot}
    assert len(others) == 5
    assert ring.secrets("sha256:a", lots="sha256:b").lot("noise", "age") != lot
    with pytest.raises(ValueError, match="none was given"):
        ring.secrets("sha256:a").lot("noise", "age")


def test_no_domain_meets_the_order_seed(tmp_path: Path) -> None:
    secrets = _ring(tmp_path).secrets("sha256:a")
    assert secrets.key("order") != secrets.order_seed.hex()


def test_a_short_salt_is_refused(tmp_path: Path) -> None:
    ring = KeyRing(MasterKey.create(tmp_path / "k" / "m", os.urandom), lambda _: b"short")
    with pytest.raises(SluicegateError) as caught:
        ring.secrets("sha256:a")
    assert caught.value.reason is Reason.CONFIG_INVALID


def test_passing_secrets_are_new_each_time() -> None:
    assert passing_secrets(os.urandom).key("person") != passing_secrets(os.urandom).key("person")


def test_a_new_key_is_private_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "master.key"
    made = MasterKey.create(path, os.urandom)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    salt = b"s" * 32
    assert MasterKey.load(path).extract(salt) == made.extract(salt)


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "master.key"
    MasterKey.create(path, os.urandom)
    before = path.read_bytes()
    with pytest.raises(SluicegateError) as caught:
        MasterKey.create(path, os.urandom)
    assert caught.value.reason is Reason.ALREADY_EXISTS
    assert path.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keys" / "master.key"
    MasterKey.create(path, os.urandom)
    path.chmod(mode)
    with pytest.raises(SluicegateError) as caught:
        MasterKey.load(path)
    assert caught.value.reason is Reason.CONFIG_UNSAFE


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o777])
def test_a_folder_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keys" / "master.key"
    MasterKey.create(path, os.urandom)
    path.parent.chmod(mode)
    for act in (MasterKey.load, lambda where: MasterKey.create(where.with_name("other"), os.urandom)):
        with pytest.raises(SluicegateError) as caught:
            act(path)
        assert caught.value.reason is Reason.CONFIG_UNSAFE


def test_a_link_in_place_of_the_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "master.key"
    MasterKey.create(path, os.urandom)
    link = path.with_name("link.key")
    link.symlink_to(path)
    with pytest.raises(SluicegateError) as caught:
        MasterKey.load(link)
    assert caught.value.reason is Reason.CONFIG_UNSAFE


@pytest.mark.parametrize("content", [b"", b"00" * 31, b"zz" * 32, b"00" * 40, b"\xff" * 64])
def test_what_is_no_key_is_refused_without_being_shown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys" / "master.key"
    MasterKey.create(path, os.urandom)
    path.write_bytes(content)
    with pytest.raises(SluicegateError) as caught:
        MasterKey.load(path)
    assert caught.value.reason is Reason.CONFIG_INVALID
    assert not content or content.decode("latin-1") not in str(caught.value)


def test_a_missing_key_is_said_to_be_missing(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(SluicegateError) as caught:
        MasterKey.load(tmp_path / "none.key")
    assert caught.value.reason is Reason.CONFIG_INVALID


def test_secrets_say_nothing_and_cannot_be_copied_out(tmp_path: Path) -> None:
    master = MasterKey.create(tmp_path / "keys" / "master.key", lambda count: KEY[:count])
    ring = KeyRing(master, SALTS.__getitem__)
    for secret in (master, ring, ring.secrets("sha256:a")):
        said = f"{secret} {secret!r} {secret:>10} {[secret]}"
        assert KEY.hex() not in said
        assert said.count(type(secret).__name__) == 4
        assert not hasattr(secret, "__dict__")
        for leak in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="never serialised"):
                leak(secret)
        with pytest.raises(TypeError):
            json.dumps(secret)


def test_a_command_prints_the_master_key_and_nothing_of_it_is_repeated() -> None:
    asked = MasterKey.ask([sys.executable, "-c", f"print({KEY.hex()!r})"])
    assert asked.extract(b"salt") == hkdf_extract(b"salt", KEY)
    for script, says in (
        ("print('5ec7e75a17')", "printed no master key of 32 bytes"),
        ("print(b'5ec7e75a17' * 7, end='')", "printed no master key of 32 bytes"),
        ("import sys; print('5ec7e75a17', file=sys.stderr); sys.exit(3)", "failed"),
    ):
        with pytest.raises(SluicegateError, match=says) as caught:
            MasterKey.ask([sys.executable, "-c", script])
        assert caught.value.reason is Reason.CONFIG_INVALID
        assert "5ec7e75a17" not in f"{caught.value} {caught.value.__cause__} {caught.value.remedy}"
    with pytest.raises(SluicegateError, match="is not there"):
        MasterKey.ask(["/nonexistent/kms"])


def test_a_command_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "PATIENCE", 0.2)
    with pytest.raises(SluicegateError, match="took over"):
        MasterKey.ask([sys.executable, "-c", "import time; time.sleep(60)"])
