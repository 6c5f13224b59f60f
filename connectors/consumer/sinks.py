"""Where pulled data goes: Parquet, CSV or Arrow IPC files, or memory.

    sink = sinks.open(Path("visits.parquet"))       # or sinks.open(None) for memory

A file sink keeps every part that arrived whole in a folder beside the output, `visits.parquet.partial/`
(0700), as Arrow IPC with a manifest, so that a broken pull resumes with the missing parts. The output
appears under its name only by `commit`, by one atomic rename; until then nothing looks whole. While
parts arrive, a thread already encodes those that are complete.

Files are 0600: what is in them was lent for one purpose. They carry no metadata of ours.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from connectors.consumer.partial import Partial, failed
from connectors.writers import ENDINGS, FORMATS, Compression, Format, bare, create, sync, writer
from contracts.errors import Reason, SluicegateError, nearest
from contracts.receipt import Intent

if TYPE_CHECKING:
    import polars as pl


class Sink(Protocol):
    """What a pull writes to. One pull at a time; `begin`, then parts in any order, then `commit`.

    Raises SINK_FAILED when something cannot be written; what arrived before stays for a resume.
    """

    def begin(self, intent: Intent, schema: pa.Schema) -> None:
        """A release is to be written. What is held of another release is thrown away."""
        ...

    def held(self) -> frozenset[int]:
        """Parts that are here already, from an earlier attempt at the same release."""
        ...

    def read(self, part: int) -> Iterator[pa.RecordBatch]:
        """The batches of a part that is held."""
        ...

    def write(self, part: int, batch: pa.RecordBatch) -> None:
        """One more batch of a part that is arriving."""
        ...

    def end_part(self, part: int) -> None:
        """The part arrived whole and its digest was right: keep it."""
        ...

    def discard(self, part: int) -> None:
        """Throw away what was arriving of a part."""
        ...

    def forget(self, part: int) -> None:
        """Throw away a part that is held."""
        ...

    def commit(self) -> None:
        """Every part is here and everything verified: let the output appear."""
        ...

    def close(self) -> None:
        """Let go without an output; parts that are held stay for a resume. After `commit`, nothing."""
        ...


def open(
    path: Path | None,
    format: Format | None = None,
    *,
    overwrite: bool = False,
    csv_safe: bool = False,
    compression: Compression = "zstd",
) -> Sink:
    """A sink for a path, by its ending (.parquet, .csv, .arrow) or by `format`; None keeps it in memory.

    `overwrite` allows an existing file to be replaced, at the very end. `csv_safe` puts an apostrophe
    before every text cell and column name that begins with = + - @ tab or CR, which spreadsheets would
    run as a formula: off by default, because it changes the data (the file no longer has the attested
    digest when it is read back). `compression` is Parquet's.

    Raises SINK_FAILED for a place that cannot be written, INVALID_ARGUMENT for an unknown format.
    """
    if path is None:
        if format is not None:
            raise SluicegateError(Reason.INVALID_ARGUMENT, "a format needs a file to write")
        return MemorySink()
    chosen = _format(path, format)
    _check_place(path, overwrite)
    return FileSink(path, chosen, csv_safe=csv_safe, compression=compression)


def _format(path: Path, wanted: str | None) -> Format:
    found = wanted or ENDINGS.get(path.suffix.lower())
    for known in FORMATS:
        if found == known:
            return known
    if wanted:
        raise SluicegateError(Reason.INVALID_ARGUMENT, f"no such format: {wanted[:40]!r}; {nearest(wanted, FORMATS)}")
    raise SluicegateError(
        Reason.INVALID_ARGUMENT,
        f"cannot tell the format of {path.name!r}: end it in {', '.join(ENDINGS)}, or name one: --format (`format`)",
    )


def _check_place(path: Path, overwrite: bool) -> None:
    if path.name in ("", ".", "..") or "\0" in str(path):
        raise SluicegateError(Reason.SINK_FAILED, "the output needs a file name")
    if not path.parent.is_dir():
        raise SluicegateError(Reason.SINK_FAILED, f"there is no folder {path.parent}; make it first")
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise SluicegateError(Reason.SINK_FAILED, f"{path} is not a regular file; choose another name")
    if path.exists() and not overwrite:
        raise SluicegateError(
            Reason.SINK_FAILED, f"{path} exists; move it away, or replace it with --overwrite (`overwrite`)"
        )


class MemorySink:
    """Keeps the release in memory: `table()`, `reader()` or `frame()` after the commit."""

    def __init__(self) -> None:
        self._schema: pa.Schema | None = None
        self._parts: dict[int, list[pa.RecordBatch]] = {}
        self._arriving: dict[int, list[pa.RecordBatch]] = {}
        self._release = ""
        self._committed = False

    def begin(self, intent: Intent, schema: pa.Schema) -> None:
        """A release is to be kept."""
        if intent.content_digest != self._release:
            self._parts = {}
        self._release, self._schema = intent.content_digest, schema

    def held(self) -> frozenset[int]:
        """Parts that are here already."""
        return frozenset(self._parts)

    def read(self, part: int) -> Iterator[pa.RecordBatch]:
        """The batches of a part."""
        return iter(self._parts[part])

    def write(self, part: int, batch: pa.RecordBatch) -> None:
        """One more batch."""
        self._arriving.setdefault(part, []).append(batch)

    def end_part(self, part: int) -> None:
        """Keep the part."""
        self._parts[part] = self._arriving.pop(part, [])

    def discard(self, part: int) -> None:
        """Throw away what was arriving."""
        self._arriving.pop(part, None)

    def forget(self, part: int) -> None:
        """Throw the part away."""
        self._parts.pop(part, None)

    def commit(self) -> None:
        """Everything verified: the data may be had."""
        self._committed = True

    def close(self) -> None:
        """Drop parts that are not whole."""
        self._arriving = {}

    def table(self) -> pa.Table:
        """The release as an Arrow table, parts in order. Raises STATE_WRONG before it is verified."""
        if not self._committed or self._schema is None:
            raise SluicegateError(Reason.STATE_WRONG, "nothing was pulled and verified yet")
        batches = [batch for part in sorted(self._parts) for batch in self._parts[part]]
        return pa.Table.from_batches(batches, self._schema)

    def reader(self) -> pa.RecordBatchReader:
        """The release as a stream of record batches."""
        return self.table().to_reader()

    def frame(self) -> pl.DataFrame:
        """The release as a Polars frame."""
        import polars as pl

        found = pl.from_arrow(self.table())
        return found if isinstance(found, pl.DataFrame) else found.to_frame()


class FileSink:
    """Writes one file, by way of its `.partial` folder. After the commit, `formulas` says how many cells of
    a CSV a spreadsheet would run, `defused` how many cells and names were changed so that none does."""

    def __init__(self, path: Path, format: Format, *, csv_safe: bool, compression: Compression) -> None:
        self.path = path
        self._partial = Partial(path)
        self._options = (format, csv_safe, compression)
        self._total = self._next = 0
        self._schema = pa.schema([])
        self._encoding: Encoding | None = None
        self.formulas = self.defused = 0

    def begin(self, intent: Intent, schema: pa.Schema) -> None:
        """Lock the folder, keep what it holds of the same release."""
        self._stop_encoding()
        self._schema, self._total, self._next = bare(schema), len(intent.parts), 0
        self._partial.begin(intent, self._schema)

    def held(self) -> frozenset[int]:
        """Parts that are here already."""
        return self._partial.held()

    def read(self, part: int) -> Iterator[pa.RecordBatch]:
        """The batches of a part that is held."""
        return self._partial.read(part)

    def write(self, part: int, batch: pa.RecordBatch) -> None:
        """One more batch."""
        self._partial.write(part, batch)

    def end_part(self, part: int) -> None:
        """Keep the part, and have it encoded if it is its turn."""
        self._partial.end_part(part)
        self._encode_ready()

    def discard(self, part: int) -> None:
        """Throw away what was arriving."""
        self._partial.discard(part)

    def forget(self, part: int) -> None:
        """Throw the part away."""
        self._partial.forget(part)

    def _encode_ready(self) -> None:
        if self._encoding is None:
            self._encoding = Encoding(self._partial, self._schema, *self._options)
        while self._next in self._partial.held():
            self._encoding.add(self._next)
            self._next += 1

    def commit(self) -> None:
        """Encode the rest, sync, rename, remove the folder."""
        self._encode_ready()
        if self._next != self._total or self._encoding is None:
            raise SluicegateError(Reason.INTERNAL, "a release is committed only when every part is held")
        made = self._encoding.finish()
        self.formulas, self.defused = self._encoding.formulas, self._encoding.defused
        self._encoding = None
        try:
            made.replace(self.path)
            _sync_folder(self.path.parent)
        except OSError as error:
            raise failed(self.path, error) from None
        self._partial.remove()

    def close(self) -> None:
        """Let go; parts that are whole stay for a resume."""
        self._stop_encoding()
        self._partial.close()

    def _stop_encoding(self) -> None:
        if self._encoding is not None:
            self._encoding.abandon()
            self._encoding = None


class Encoding:
    """A thread that encodes parts into the output, in order, while later ones still arrive."""

    def __init__(
        self,
        partial: Partial,
        schema: pa.Schema,
        format: Format,
        csv_safe: bool,
        compression: Compression,
    ) -> None:
        self._partial, self._schema = partial, schema
        self._options = (format, csv_safe, compression)
        self._output = partial.folder / "output.new"
        self._parts: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._given_up = False
        self.formulas = self.defused = 0
        self._failure: SluicegateError | None = None
        self._thread = threading.Thread(target=self._run, name="encode", daemon=True)
        self._thread.start()

    def add(self, part: int) -> None:
        """The next part, in order. Raises what encoding failed with meanwhile."""
        if self._failure is not None:
            raise self._failure
        self._parts.put(part)

    def finish(self) -> Path:
        """Wait for the last part; the finished file, synced."""
        self._parts.put(None)
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return self._output

    def abandon(self) -> None:
        """Stop, and throw the output away."""
        self._given_up = True
        self._parts.put(None)
        self._thread.join()
        self._output.unlink(missing_ok=True)

    def _run(self) -> None:
        try:
            format, csv_safe, compression = self._options
            with create(self._output) as file:
                making = writer(file, self._schema, format, csv_safe=csv_safe, compression=compression)
                with contextlib.closing(making):
                    while (part := self._parts.get()) is not None and not self._given_up:
                        for batch in self._partial.read(part):
                            making.write(batch)
                self.formulas, self.defused = getattr(making, "formulas", 0), getattr(making, "defused", 0)
                if not self._given_up:
                    sync(file)
        except SluicegateError as error:
            self._failure = error
        except Exception as error:  # noqa: BLE001 - whatever an encoder raises may quote a cell
            self._failure = failed(self._output, error)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
