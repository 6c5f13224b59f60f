"""A home folder: which profile acts, which gateway serves."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.errors import Reason, SluicegateError
from exchange import config
from exchange.config import GatewaySettings, Profile
from exchange.home import Home
from tests.halls import refused


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLUICEGATE_HOME", "SLUICEGATE_PROFILE"):
        monkeypatch.delenv(name, raising=False)


def home_of(folder: Path, *profiles: str) -> Home:
    for name in profiles:
        path = folder / "profiles" / f"{name}.toml"
        config.create(path, Profile(party="p", subject=f"{name}@p.example", endpoint="localhost:1"))
    return Home(folder)


def failure(call: object) -> SluicegateError:
    with pytest.raises(SluicegateError) as caught:
        call()  # type: ignore[operator]
    return caught.value


def test_where_a_home_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Home.find().root == tmp_path / ".sluicegate"
    monkeypatch.setenv("SLUICEGATE_HOME", str(tmp_path / "other"))
    assert Home.find().root == tmp_path / "other"
    assert Home.find(tmp_path / "named").root == tmp_path / "named"
    assert Home.find(Path("~/mine")).root == tmp_path / "mine"
    assert not list(tmp_path.iterdir()), "looking at a home makes nothing"


def test_the_only_profile_acts_unless_another_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = home_of(tmp_path, "anna")
    assert home.profile().subject == "anna@p.example"
    home = home_of(tmp_path, "ben", "chen")
    assert "one of anna, ben, chen" in failure(home.profile).message
    home.use("ben")
    assert home.profile().subject == "ben@p.example"
    monkeypatch.setenv("SLUICEGATE_PROFILE", "chen")
    assert home.profile().subject == "chen@p.example"
    assert home.profile("anna").subject == "anna@p.example"


def test_an_unknown_profile_is_named_with_the_nearest(tmp_path: Path) -> None:
    home = home_of(tmp_path, "steward", "planner")
    assert "did you mean 'steward'?" in failure(lambda: home.profile("stewart")).message
    for name in ("../steward", "/etc/passwd", ""):
        assert failure(lambda: home.profile(name or "x/y")).reason is Reason.CONFIG_INVALID  # noqa: B023
    with refused(Reason.CONFIG_INVALID):
        home.use("nobody")
    assert home.current() is None


def test_a_home_without_profiles_says_what_to_do(tmp_path: Path) -> None:
    assert "sluicegate init" in failure(Home(tmp_path).profile).message


def test_a_choice_that_is_gone_is_told(tmp_path: Path) -> None:
    home = home_of(tmp_path, "anna", "ben")
    home.use("ben")
    (tmp_path / "profiles" / "ben.toml").unlink()
    assert "'ben'" in failure(home.profile).message
    (tmp_path / "profiles" / "current").write_bytes(b"\xff\xff" * 5000)
    assert failure(home.profile).reason is Reason.CONFIG_INVALID


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "-x", "a b", "x" * 65, "a\n"])
def test_profiles_have_plain_names(tmp_path: Path, name: str) -> None:
    with refused(Reason.INVALID_ARGUMENT):
        Home(tmp_path).new_profile_file(name)


def test_a_profile_is_not_added_twice(tmp_path: Path) -> None:
    home = home_of(tmp_path, "anna")
    with refused(Reason.ALREADY_EXISTS):
        home.new_profile_file("anna")
    assert home.new_profile_file("anna.2").parent == tmp_path / "profiles"


def test_which_gateway_serves(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert "has none" in failure(lambda: home.served_by(None)).message
    for name in ("one", "two"):
        config.create(home.gateway(name), GatewaySettings(gateway=name, party="p", subject=name))
        if name == "one":
            assert home.served_by(None) == home.gateway("one")
    assert "one, two" in failure(lambda: home.served_by(None)).message
    assert "one, two" in failure(lambda: home.served_by("../one")).message
    assert home.served_by("two") == home.gateway("two")
