"""Generate and check what comes from proto/: `python tools/proto.py generate|check|lint`.

`generate` writes `exchange/v1/` from `proto/` (and `error_reason.proto` from contracts.errors);
`check` does the same in a temporary folder and fails if anything differs from what is committed;
`lint` runs `buf lint` on our own files.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import google.api
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from contracts.errors import TRAITS, Reason  # noqa: E402

# mypy-protobuf and buf sit beside the interpreter that runs this script.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
SITE = Path(next(iter(google.api.__path__))).parent.parent
WELL_KNOWN = Path(protoc.__file__).parent / "_proto"


def error_reasons() -> str:
    """The text of `error_reason.proto`, from the one list of reasons there is."""
    lines = [
        'syntax = "proto3";',
        "",
        "// Reasons of errors. Written from contracts/errors.py by tools/proto.py.",
        "package exchange.v1;",
        "",
        "// ErrorReason lists every `google.rpc.ErrorInfo.reason` (there without the prefix ERROR_REASON_).",
        "enum ErrorReason {",
        "  // Never sent.",
        "  ERROR_REASON_UNSPECIFIED = 0;",
    ]
    for number, reason in enumerate(Reason, start=1):
        traits = TRAITS[reason]
        lines += [
            f"  // {traits.code}: {traits.meaning}. Remedy: {traits.remedy}.",
            f"  ERROR_REASON_{reason} = {number};",
        ]
    return "\n".join([*lines, "}", ""])


def generate(source: Path, out: Path) -> None:
    """Run protoc over `source`, writing packages below `out`."""
    files = sorted(str(path) for path in (source / "exchange" / "v1").glob("*.proto"))
    arguments = [
        "protoc",
        f"-I{source}",
        f"-I{SITE}",
        f"-I{WELL_KNOWN}",
        f"--python_out={out}",
        f"--grpc_python_out={out}",
    ]
    arguments += [f"--mypy_out=quiet:{out}", f"--mypy_grpc_out=quiet:{out}", *files]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed")


def check() -> int:
    """Compare committed generated files with fresh ones; the number of differences."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(ROOT / "proto", fresh)
        committed = ROOT / "exchange" / "v1"
        names = {path.name for path in committed.glob("*_pb2*")} | {
            path.name for path in (fresh / "exchange/v1").iterdir()
        }
        stale = [
            name
            for name in sorted(names)
            if not (committed / name).is_file()
            or not (fresh / "exchange/v1" / name).is_file()
            or not filecmp.cmp(committed / name, fresh / "exchange/v1" / name, shallow=False)
        ]
    if (ROOT / "proto/exchange/v1/error_reason.proto").read_text() != error_reasons():
        stale.append("error_reason.proto")
    for name in stale:
        print(f"stale: {name}; run make proto", file=sys.stderr)
    return len(stale)


def lint() -> int:
    """`buf lint` over our files, with the one imported Google file staged beside them."""
    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder)
        shutil.copytree(ROOT / "proto", stage / "proto")
        (stage / "google/google/api").mkdir(parents=True)
        shutil.copy(SITE / "google/api/field_behavior.proto", stage / "google/google/api")
        config = (
            (ROOT / "buf.yaml")
            .read_text()
            .replace("  - path: proto\n", "  - path: proto\n  - path: google\n    lint:\n      ignore: [google]\n")
        )
        (stage / "buf.yaml").write_text(config)
        return subprocess.run(["buf", "lint"], cwd=stage, check=False).returncode


def main(verb: str) -> int:
    """Run one verb; the exit code."""
    if verb == "generate":
        (ROOT / "proto/exchange/v1/error_reason.proto").write_text(error_reasons())
        generate(ROOT / "proto", ROOT)
        return 0
    return {"check": check, "lint": lint}[verb]()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
