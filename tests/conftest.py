"""What every test shares: which real servers are there, and where the corpora lie.

A test that needs a part which is not installed is deselected, so that the summary says so; `.ci/run`
installs all of them and sets SLUICEGATE_REQUIRE_ALL, under which a missing one is an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says nothing on a shared machine; what it finds does.
settings.register_profile("sluicegate", deadline=None, print_blob=True)
settings.load_profile("sluicegate")

ROOT = Path(__file__).resolve().parent.parent
CORPORA = Path(os.environ.get("SLUICEGATE_CORPORA", ROOT.parent / "shared" / "corpora"))


def _namespaces() -> bool:
    """Whether a process may have a network of its own."""
    words = ["unshare", "--net", "--map-root-user", "true"]
    return shutil.which("unshare") is not None and subprocess.run(words, capture_output=True).returncode == 0


NEEDS: dict[str, Callable[[], object]] = {
    "needs_opa": lambda: os.environ.get("SLUICEGATE_OPA") or shutil.which("opa"),
    "needs_postgres": lambda: os.environ.get("SLUICEGATE_POSTGRES_URL"),
    "needs_grpcurl": lambda: os.environ.get("SLUICEGATE_GRPCURL") or shutil.which("grpcurl"),
    "needs_spark": lambda: os.environ.get("SLUICEGATE_SPARK_PYTHON"),
    "needs_netns": _namespaces,
    "needs_chromium": lambda: os.environ.get("SLUICEGATE_CHROMIUM") or shutil.which("chromium"),
}


@pytest.hookimpl(wrapper=True)
def pytest_collection_finish(session: pytest.Session) -> Iterator[None]:
    """Fail when the groups do not hold: each worker would found a city of its own, and half of the tests
    of a file would look for what the other half made."""
    yield
    if getattr(session.config.option, "loadgroup", False):
        loose = [
            item.nodeid for item in session.items if item.get_closest_marker("xdist_group") and "@" not in item.nodeid
        ]
        if loose:
            raise pytest.UsageError(f"pytest and pytest-xdist do not fit together: {loose[0]} is in no group")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what needs a part that is not there, or fail when everything must be."""
    missing = {marker for marker, found in NEEDS.items() if not found()}
    if missing and os.environ.get("SLUICEGATE_REQUIRE_ALL"):
        raise pytest.UsageError(f"SLUICEGATE_REQUIRE_ALL is set, but these parts are missing: {sorted(missing)}")
    out = [item for item in items if any(item.get_closest_marker(marker) for marker in missing)]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in set(out)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """With a test that failed, show what the processes of its city said last."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            city = getattr(value, "city", value)
            report.sections += getattr(city, "last_words", list)()
    return report


@pytest.fixture(scope="session")
def corpora() -> Path:
    """Third-party data; the test is skipped where the folder is absent."""
    if not CORPORA.is_dir():
        pytest.skip(f"the corpora are not at {CORPORA}; set SLUICEGATE_CORPORA")
    return CORPORA
