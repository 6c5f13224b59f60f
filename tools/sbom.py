"""A software bill of materials of what the lock installs: `python tools/sbom.py OUT` (CycloneDX 1.6, JSON).

Written by cyclonedx-bom (Apache-2.0) from an environment of its own under .tools, so that it widens
neither the lock nor what it describes. Before the file gets its name it is checked: everything that is
installed is in it, at its version.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".tools" / "sbom"
GENERATOR = "cyclonedx-bom==7.5.0"


def generator() -> Path:
    """The generator, installed if it is not there yet."""
    python, command = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "bin" / "cyclonedx-py"
    if not command.exists():
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        quiet = ("--quiet", "--disable-pip-version-check")
        subprocess.run([python, "-m", "pip", "install", *quiet, GENERATOR], check=True)
    return command


def missing(bill: dict[str, Any]) -> list[str]:
    """What is installed here and not in the bill."""
    listed = {(_plain(each["name"]), each["version"]) for each in bill.get("components", [])}
    there = {(_plain(each.metadata["Name"]), each.version) for each in distributions()} - {("pip", _pip())}
    return sorted(f"{name} {version}" for name, version in there - listed if name != "sluicegate")


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pip() -> str:
    return next((each.version for each in distributions() if each.metadata["Name"] == "pip"), "")


def main(out: Path) -> int:
    """Write the bill of this interpreter's environment."""
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = out.with_name(f".{out.name}.new")
    words = ["environment", sys.executable, "--pyproject", str(ROOT / "pyproject.toml"), "--output-reproducible"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([generator(), *words, "--output-file", fresh], check=True, env=environment)
    bill = json.loads(fresh.read_text())
    lacking = missing(bill)
    if bill.get("bomFormat") != "CycloneDX" or lacking:
        print(f"the bill of materials is not whole: {', '.join(lacking) or 'it is no CycloneDX'}", file=sys.stderr)
        fresh.unlink()
        return 1
    fresh.replace(out)
    licensed = sum(1 for each in bill["components"] if each.get("licenses"))
    print(f"{out}: {len(bill['components'])} components, {licensed} with a licence, CycloneDX {bill['specVersion']}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
