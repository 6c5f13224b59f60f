"""What a broken pull leaves: a folder beside the output, with the parts that arrived whole.

    visits.parquet.partial/   0700
        lock                  one pull at a time
        manifest.json         of which release, in which types, by which transfer
        part-00003.arrow      a part whose digest was right
        part-00004.arrow.new  a part that was arriving
        output.new            the output in the making

A part gets its name only after its digest was verified, and is verified again when it is used.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from connectors.writers import create
from contracts.canonical import digest
from contracts.errors import Reason, SluicegateError
from contracts.receipt import Intent

_PART = re.compile(r"part-(\d{5,})\.arrow")
VERSION = 1


class Partial:
    """The folder of one output. `begin` takes it, `close` or `remove` gives it back."""

    def __init__(self, output: Path) -> None:
        self.folder = _folder(output)
        self._lock = -1
        self._held: set[int] = set()
        self._schema = pa.schema([])
        self._arriving: dict[int, tuple[object, pa.ipc.RecordBatchFileWriter]] = {}

    def begin(self, intent: Intent, schema: pa.Schema) -> None:
        """Take the folder for this release. Parts of another release, or of the same in other types,
        are thrown away. Raises SINK_FAILED when another pull has it."""
        self.close()
        self._schema = schema
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            found = self.folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
                raise SluicegateError(Reason.SINK_FAILED, f"{self.folder} is not a private folder of yours; remove it")
            self._take()
            self._match(
                {
                    "version": VERSION,
                    "release": intent.release,
                    "contentDigest": intent.content_digest,
                    "schema": digest([list(column) for column in intent.schema]),
                    "parts": len(intent.parts),
                },
                intent.transfer,
            )
            self._held = set(self._found(len(intent.parts)))
        except OSError as error:
            raise failed(self.folder, error) from None

    def _take(self) -> None:
        self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            self._lock = -1
            raise SluicegateError(Reason.SINK_FAILED, f"another pull writes to {self.folder}; wait for it") from None

    def _match(self, wanted: dict[str, object], transfer: str) -> None:
        known = _manifest(self.folder)
        if {**known, "transfer": transfer} != {**wanted, "transfer": transfer}:
            for entry in self.folder.iterdir():
                if entry.name != "lock":
                    entry.unlink()
        fresh = self.folder / "manifest.json.new"
        fresh.unlink(missing_ok=True)
        with create(fresh) as file:
            file.write(json.dumps({**wanted, "transfer": transfer}, indent=1).encode())
        fresh.replace(self.folder / "manifest.json")

    def _found(self, total: int) -> Iterator[int]:
        for entry in self.folder.iterdir():
            match = _PART.fullmatch(entry.name)
            if match and int(match[1]) < total:
                yield int(match[1])
            elif entry.name.endswith(".new"):
                entry.unlink()

    def held(self) -> frozenset[int]:
        """Parts that arrived whole."""
        return frozenset(self._held)

    def read(self, part: int) -> Iterator[pa.RecordBatch]:
        """The batches of a part, memory-mapped. Raises SINK_FAILED when it cannot be read."""
        try:
            with pa.memory_map(str(self._path(part))) as file:
                reader = pa.ipc.open_file(file)
                for index in range(reader.num_record_batches):
                    yield reader.get_batch(index)
        except (OSError, pa.ArrowException) as error:
            raise failed(self._path(part), error) from None

    def write(self, part: int, batch: pa.RecordBatch) -> None:
        """One more batch of a part that is arriving."""
        try:
            self._writer(part).write_batch(batch)
        except (OSError, pa.ArrowException) as error:
            raise failed(self.folder, error) from None

    def _writer(self, part: int) -> pa.ipc.RecordBatchFileWriter:
        if part not in self._arriving:
            file = create(self._path(part, ".new"))
            self._arriving[part] = (file, pa.ipc.new_file(file, self._schema))
        return self._arriving[part][1]

    def end_part(self, part: int) -> None:
        """The part is whole and right: give it its name."""
        try:
            self._writer(part)
            self._finish(part)
            self._path(part, ".new").replace(self._path(part))
        except (OSError, pa.ArrowException) as error:
            raise failed(self.folder, error) from None
        self._held.add(part)

    def _finish(self, part: int) -> None:
        file, writer = self._arriving.pop(part)
        try:
            writer.close()
        finally:
            file.close()  # type: ignore[attr-defined]

    def forget(self, part: int) -> None:
        """Throw away a part that is held."""
        self._held.discard(part)
        self._path(part).unlink(missing_ok=True)

    def discard(self, part: int) -> None:
        """Throw away what was arriving of a part."""
        if part in self._arriving:
            with contextlib.suppress(OSError, pa.ArrowException):
                self._finish(part)
            self._path(part, ".new").unlink(missing_ok=True)

    def _path(self, part: int, ending: str = "") -> Path:
        return self.folder / f"part-{part:05d}.arrow{ending}"

    def close(self) -> None:
        """Drop parts that are not whole; keep the others; let another pull take the folder."""
        for part in list(self._arriving):
            self.discard(part)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def remove(self) -> None:
        """The output is there: remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.close()


def interrupted(output: Path) -> str:
    """The transfer that was last begun for this output and did not come to its end; empty without one."""
    transfer = _manifest(_folder(output)).get("transfer")
    return transfer if isinstance(transfer, str) else ""


def _folder(output: Path) -> Path:
    return output.with_name(output.name + ".partial")


def _manifest(folder: Path) -> dict[str, object]:
    try:
        known = json.loads((folder / "manifest.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def failed(path: Path, error: Exception) -> SluicegateError:
    """SINK_FAILED for what the file system or the encoder said; never a cell value."""
    if isinstance(error, OSError) and error.errno is not None:
        why = os.strerror(error.errno)
    else:
        why = type(error).__name__
    return SluicegateError(
        Reason.SINK_FAILED, f"cannot write {path}: {why}; what arrived is kept: make room, then pull again"
    )
