"""What `make` says before it begins: which Pythons will do."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.docs.pages import ROOT


def supported(version: tuple[int, int]) -> bool:
    """What pyproject.toml says of a Python."""
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    least, below = (tuple(map(int, part.lstrip(">=<").split("."))) for part in needed.split(","))
    return least <= version < below


@pytest.mark.parametrize("version", [(3, 10), (3, 11), (3, 12), (3, 13), (3, 14), (4, 0)])
def test_make_refuses_just_the_pythons_that_the_package_refuses(tmp_path: Path, version: tuple[int, int]) -> None:
    """A Python that says it is of that version, and can do nothing but run what `-c` gives it."""
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\n"
        '[ "$1" = -c ] || { echo "went on with $*" >&2; exit 7; }\n'
        f'exec {shlex.quote(sys.executable)} -c "import sys; sys.version_info = {(*version, 0, "final", 0)}\n$2"\n'
    )
    python.chmod(0o755)
    # Without uv on the path: it would go and make an environment.
    path = os.pathsep.join(("/usr/bin", "/bin"))
    done = subprocess.run(
        ["make", "setup", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    refused = f"runs on Python 3.11 to 3.13, and {python} is {version[0]}.{version[1]}; name another" in done.stderr
    assert (refused, "went on" in done.stderr) == (not supported(version), supported(version)), done.stderr
