"""A software bill of materials of what the lock installs: `python tools/sbom.py OUT` (CycloneDX 1.6, JSON).

Written by cyclonedx-bom (Apache-2.0) from an environment of its own under .tools, so that it widens
neither the lock nor what it describes; it is installed by the hashes of a lock of its own. Licences that it
does not find are added from the same place that the tests look at. Before the file gets its name it is
checked: everything that is installed is in it, at its version, with a licence.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".tools" / "sbom"
LOCK = ROOT / "tools" / "sbom.lock"
# How distributions without an SPDX expression spell theirs.
SPELLINGS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD 2-Clause License": "BSD-2-Clause",
    "ISC License": "ISC",
    "MIT License": "MIT",
}
# What the metadata does not say, and somebody read elsewhere.
CONCLUDED = {"polars-hash": ("MIT", "says nothing in its metadata; its repository has the MIT licence")}


def generator() -> Path:
    """The generator, installed if it is not there yet."""
    python, command = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "bin" / "cyclonedx-py"
    mark = ENVIRONMENT / LOCK.name  # what is installed there; written last
    if not mark.exists() or mark.read_bytes() != LOCK.read_bytes():
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        quiet = ("--quiet", "--disable-pip-version-check")
        subprocess.run([python, "-m", "pip", "install", *quiet, "--require-hashes", "-r", LOCK], check=True)
        mark.write_bytes(LOCK.read_bytes())
    return command


def missing(bill: dict[str, Any]) -> list[str]:
    """What is installed here and not in the bill."""
    listed = {(_plain(each["name"]), each["version"]) for each in bill.get("components", [])}
    there = {(_plain(each.metadata["Name"]), each.version) for each in distributions()} - {("pip", _pip())}
    return sorted(f"{name} {version}" for name, version in there - listed if name != "sluicegate")


def licence(found: Distribution) -> str:
    """What its metadata says; empty if nothing."""
    metadata = found.metadata
    if expression := metadata["License-Expression"]:
        return str(expression)
    told = str(metadata["License"] or "").strip()
    if told and "\n" not in told:
        return SPELLINGS.get(told, told)
    classes = [value for value in metadata.get_all("Classifier", []) if value.startswith("License ::")]
    said = [value.rpartition(" :: ")[2] for value in classes]
    return " AND ".join(SPELLINGS.get(each, each) for each in said)


def licensed(bill: dict[str, Any]) -> None:
    """Add the licences that the generator did not find: as declared, or as concluded from elsewhere."""
    found = {_plain(each.metadata["Name"]): licence(each) for each in distributions()}
    for each in bill.get("components", []):
        name = _plain(each["name"])
        concluded, _ = CONCLUDED.get(name, ("", ""))
        if not each.get("licenses") and (said := found.get(name) or concluded):
            how = "declared" if found.get(name) else "concluded"
            if " " in said:
                each["licenses"] = [{"expression": said, "acknowledgement": how}]
            else:
                each["licenses"] = [{"license": {"id": said, "acknowledgement": how}}]


def unlicensed(bill: dict[str, Any]) -> list[str]:
    """What the bill says no licence of."""
    return sorted(
        f"{_plain(each['name'])} {each['version']}" for each in bill["components"] if not each.get("licenses")
    )


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
    licensed(bill)
    lacking = [*missing(bill), *(f"the licence of {name}" for name in unlicensed(bill))]
    if bill.get("bomFormat") != "CycloneDX" or lacking:
        print(f"the bill of materials is not whole: {', '.join(lacking) or 'it is no CycloneDX'}", file=sys.stderr)
        fresh.unlink()
        return 1
    fresh.write_text(json.dumps(bill, indent=2) + "\n")
    fresh.replace(out)
    print(f"{out}: {len(bill['components'])} components, each with a licence, CycloneDX {bill['specVersion']}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
