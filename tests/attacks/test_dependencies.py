"""The attacker is a dependency: he holds code inside our processes, and wants it to call home, to fetch
more of itself, or to open a door to the network that nobody asked for."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.e2e.city import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.needs_netns, pytest.mark.xdist_group("attacks")]

_ALONE = ("unshare", "--net", "--map-root-user")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A whole transfer in a network namespace of its own, and what the kernel saw of it."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SLUICEGATE_")}
    done = subprocess.run(
        [*_ALONE, sys.executable, "-m", "tests.attacks.alone", str(tmp_path_factory.mktemp("alone"))],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment | {"PYTHONPATH": str(ROOT)},
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_dependency_that_calls_home_at_run_time(alone: dict[str, Any]) -> None:
    """Nothing is fetched at run time: everything works without a network, and nothing so much as tries."""
    assert alone["counted"] == {"without_route": 0, "datagrams": 0}
    assert alone["counted_after_calls"]["without_route"] >= 3, "calls that are meant must be seen"


def test_a_door_to_the_network_that_nobody_configured(alone: dict[str, Any]) -> None:
    """As founded, exchange and gateway listen on loopback, and nothing else listens at all."""
    assert len(alone["listened"]) == 2
    for address in alone["listened"]:
        assert ipaddress.ip_address(address).is_loopback, address
