"""Files as a source: Parquet, CSV, NDJSON and Arrow IPC; one file, a glob, a folder."""

from __future__ import annotations

import codecs
import csv
import hashlib
import re
from collections.abc import Iterable, Sequence
from glob import has_magic
from pathlib import Path

import msgspec
import polars as pl

from connectors.sources.base import Format, SourceSettings, dtype_of, invalid, polars_type, reading, unavailable
from connectors.sources.text import Text, first_says_offset
from contracts.dtypes import LIST, Schema
from contracts.errors import Reason, SluicegateError, Violation, nearest
from contracts.model import Field

SUFFIXES = {
    "parquet": (".parquet", ".pq"),
    "csv": (".csv",),
    "ndjson": (".ndjson", ".jsonl"),
    "arrow": (".arrow", ".feather", ".ipc"),
}
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_INFER_ROWS = 10_000
_CHUNK = 1 << 20
_HEAD = 4 << 20
_LONGEST_LINE = 1 << 20
# What the rows read first of a key may have looked like, whose values are lists of texts.
_LISTS = frozenset(pl.List(kind) for kind in (pl.String, pl.Null, pl.Int64, pl.Float64, pl.Boolean)) | {pl.Null()}


class FileSource:
    """Files under one root. The files are looked up anew at each call, and handed to the engine by
    their resolved names, so that a link swapped in between leads nowhere."""

    def __init__(self, settings: SourceSettings, fields: Iterable[Field] = ()) -> None:
        """`fields` are those of the contract: what the settings leave open of a CSV or NDJSON, their
        logical types decide.

        Raises CONFIG_INVALID for a URL, an unknown column type or a path without a name."""
        if _URL.match(settings.path) or (settings.root is not None and _URL.match(settings.root)):
            raise SluicegateError(
                Reason.CONFIG_INVALID,
                "a source is a file, a glob or a folder of this machine, not a URL: fetch it first",
            )
        if not Path(settings.path).name:
            raise SluicegateError(Reason.CONFIG_INVALID, "the path of a source is empty or the root of the machine")
        self._settings = settings
        self._stated = {name: Text(polars_type(spelling)) for name, spelling in settings.columns.items()}
        self._declared = {field.name: field.logical_type for field in fields}

    @property
    def name(self) -> str:
        """The last part of the configured path."""
        return Path(self._settings.path).name

    def schema(self) -> Schema:
        """Column name -> type. Raises SOURCE_UNAVAILABLE or DATA_INVALID."""
        files = self.files()
        types = self._types(files)
        texts = self._texts(files, types, list(types))
        return {name: dtype_of(texts[name].dtype if name in texts else dtype) for name, dtype in types.items()}

    def state(self) -> str:
        """A digest of how the source is bound, which files there are, and when each was last changed; `touch`
        makes it another. Raises SOURCE_UNAVAILABLE or DATA_INVALID."""
        found: list[object] = [msgspec.to_builtins(self._settings)]
        with reading(self.name):
            for file in self.files():
                now = file.stat()
                marks = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
                found.append([str(file), *marks])
        return hashlib.sha256(msgspec.json.encode(found)).hexdigest()

    def scan(self, columns: Sequence[str]) -> pl.LazyFrame:
        """A lazy frame of these columns. Raises SOURCE_UNAVAILABLE or DATA_INVALID; so does collecting
        it, under `base.reading`."""
        files = self.files()
        types = self._types(files)
        for column in columns:
            if column not in types:
                hint = nearest(column, types)
                raise invalid(self.name, f"it has no column {column!r}" + (f" ({hint})" if hint else ""))
        texts = self._texts(files, types, columns)
        with reading(self.name):
            return self._all(files, {name: types[name] for name in columns}).select(
                texts[column].value(column)
                if column in texts
                else pl.col(column).cast(pl.String)
                if isinstance(types[column], pl.Categorical | pl.Enum)
                else pl.col(column).cast(pl.List(pl.String))
                if dtype_of(types[column]) == LIST
                else pl.col(column)
                for column in columns
            )

    def misfits(self, columns: Sequence[str]) -> tuple[Violation, ...]:
        """Which of these columns of text hold cells that are not of its type, and how many. Reads the
        whole source. Raises SOURCE_UNAVAILABLE or DATA_INVALID."""
        files = self.files()
        types = self._types(files)
        columns = [column for column in columns if column in types]
        texts = self._texts(files, types, columns)
        found = {name: text for name, text in texts.items() if not text.plain}
        if not found:
            return ()
        with reading(self.name):
            counted = self._all(files, {name: types[name] for name in columns}).select(
                pl.len().alias("#rows"), *(text.misfits(name) for name, text in found.items())
            )
            counts = counted.collect(engine="streaming").row(0, named=True)
        return tuple(
            Violation(
                name,
                f"{counts[name]:,} of {counts['#rows']:,} rows hold something else than {text.wanted()}",
                "mend the data, state another type under `columns`, or declare another in the contract",
                code="CELLS_UNFIT",
            )
            for name, text in found.items()
            if counts[name]
        )

    def files(self) -> list[Path]:
        """The files that the path leads to now, resolved, in the order of their names.

        Raises SOURCE_UNAVAILABLE when there is none, DATA_INVALID when one is empty or lies outside the
        root.
        """
        path = Path(self._settings.path)
        root = Path(self._settings.root) if self._settings.root is not None else _fixed(path)
        if self._settings.root is not None and not path.is_absolute():
            path = root / path
        with reading(self.name):
            found = _matching(path, self._settings.format)
            if not found:
                raise unavailable(self.name, "there is no such file, or nothing matches")
            inside = root.resolve(strict=True)
            resolved = [file.resolve(strict=True) for file in found]
            for file, target in zip(found, resolved, strict=True):
                if not target.is_relative_to(inside):
                    raise invalid(file.name, "it lies outside the source's root; move it there, or configure `root`")
                if not target.is_file():
                    raise invalid(file.name, "it is not a regular file")
                if target.stat().st_size == 0:
                    raise invalid(file.name, "the file is empty")
        return resolved

    def _texts(self, files: list[Path], types: dict[str, pl.DataType], columns: Sequence[str]) -> dict[str, Text]:
        """How the cells of these columns are read, where the format has cells of text."""
        if self._settings.format not in ("csv", "ndjson"):
            return {}
        found = {name: self._text(name) for name in columns if types[name] == pl.String()}
        for name in found:
            if name not in self._stated and self._declared.get(name) == "timestamp":
                with reading(self.name):
                    if first_says_offset(self._all(files, {name: types[name]}), name):
                        found[name] = found[name].zoned()
        return found

    def _as_text(self, name: str, dtype: pl.DataType) -> pl.DataType:
        """What a key of NDJSON is read as: text, if we know a type for it and it is no structure."""
        known = name in self._stated or name in self._declared
        if dtype in _LISTS and self._text(name).dtype == pl.List(pl.String):
            return pl.List(pl.String())
        return pl.String() if known and not dtype.is_nested() else dtype

    def _text(self, name: str) -> Text:
        return self._stated.get(name) or Text.declared(self._declared.get(name, "string"))

    def _types(self, files: list[Path]) -> dict[str, pl.DataType]:
        """Types of all files together. A folder whose files do not agree is refused."""
        known: dict[str, pl.DataType] = {}
        for file in files:
            with reading(file.name):
                types = dict(self._open_one(file).collect_schema())
            if self._settings.format == "ndjson":
                types = {name: self._as_text(name, dtype) for name, dtype in types.items()}
            if not types:
                raise invalid(file.name, "it has no columns")
            if not known:
                known = types
            elif types != known:
                known = self._reconciled(known, types, file)
        return known

    def _reconciled(
        self, known: dict[str, pl.DataType], types: dict[str, pl.DataType], file: Path
    ) -> dict[str, pl.DataType]:
        other = sorted(name for name in known.keys() & types.keys() if known[name] != types[name])
        if self._settings.format == "ndjson":  # a key may be absent from all lines of a file
            odd = [name for name in other if pl.Null() not in (known[name], types[name])]
            if not odd:
                return {
                    **types,
                    **{name: dtype for name, dtype in known.items() if dtype != pl.Null() or name not in types},
                }
            other = odd
        uneven = sorted(known.keys() ^ types.keys()) if self._settings.format != "ndjson" else []
        if not other and not uneven:  # the same columns in another order
            return known
        what = ", ".join([*uneven, *other][:5])
        raise invalid(file.name, f"its columns differ from those of the files before it: {what}")

    def _all(self, files: list[Path], types: dict[str, pl.DataType]) -> pl.LazyFrame:
        """All files as one frame; the engine's readers of these two formats want one order of columns."""
        if len(files) > 1 and self._settings.format in ("csv", "arrow"):
            return pl.concat([self._open([file], types).select(list(types)) for file in files])
        return self._open(files, types)

    def _open_one(self, file: Path) -> pl.LazyFrame:
        return self._open([file], None)

    def _open(self, files: list[Path], types: dict[str, pl.DataType] | None) -> pl.LazyFrame:
        match self._settings.format:
            case "parquet":
                return pl.scan_parquet(files, glob=False, hive_partitioning=False, low_memory=True)
            case "arrow":
                return pl.scan_ipc(files, glob=False, hive_partitioning=False)
            case "csv":
                return self._open_csv(files, types)
            case "ndjson":
                return pl.scan_ndjson(files, schema=types, infer_schema_length=_INFER_ROWS)

    def _open_csv(self, files: list[Path], types: dict[str, pl.DataType] | None) -> pl.LazyFrame:
        if types is None:
            for file in files:
                _check_header(file, self._settings.separator)
        return pl.scan_csv(
            files,
            glob=False,
            separator=self._settings.separator,
            null_values=list(self._settings.null_values) or None,
            infer_schema=False,
            encoding="utf8",
        )


def check_utf8(file: Path, limit: int = _HEAD) -> None:
    """Raise DATA_INVALID, with the byte's position, when the first `limit` bytes of a file are not UTF-8."""
    decoder, position = codecs.getincrementaldecoder("utf-8")(), 0
    with file.open("rb") as stream:
        while chunk := stream.read(min(_CHUNK, limit - position)):
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                raise invalid(
                    file.name, f"it is not UTF-8 at byte {position - pending + error.start}; convert it"
                ) from None
            position += len(chunk)
    if position < limit and decoder.getstate()[0]:
        raise invalid(file.name, "it is not UTF-8: it ends within a character; convert it")


def _check_header(file: Path, separator: str) -> None:
    """The engine renames duplicate columns and takes a header for data: look at the first line ourselves."""
    check_utf8(file)
    with file.open(encoding="utf-8-sig", newline="") as stream:
        try:
            names = next(csv.reader(iter(lambda: stream.readline(_LONGEST_LINE), ""), delimiter=separator), [])
        except csv.Error:
            names = []
    if not names or any(not name.strip() for name in names):
        raise invalid(file.name, "its first line must name every column")
    if len(names) == 1 and (other := next((mark for mark in ";\t|," if mark in names[0]), "")):
        what = "a tab" if other == "\t" else f"{other!r}"
        raise invalid(file.name, f"its first line is one name with {what} in it; state that as its separator")
    if len(set(names)) != len(names):
        raise invalid(file.name, "two of its columns have the same name")


def _fixed(path: Path) -> Path:
    """The part of a path before its first wildcard; of a plain file, its folder."""
    parts = path.parts
    for index, part in enumerate(parts):
        if has_magic(part):
            return Path(*parts[:index]) if index else Path()
    return path if path.is_dir() else path.parent


def matching(settings: SourceSettings) -> list[Path]:
    """The files that a source leads to now, unchecked; empty when there are none."""
    return _matching(Path(settings.path), settings.format)


def _matching(path: Path, form: Format) -> list[Path]:
    """The files a path stands for. Names that begin with a dot or underscore are other tools' marks."""
    if has_magic(str(path)):
        fixed = _fixed(path)
        return sorted(file for file in fixed.glob(str(path.relative_to(fixed))) if file.is_file() and _plain(file))
    if path.is_dir():
        return sorted(
            file for file in path.rglob("*") if file.suffix in SUFFIXES[form] and _plain(file) and not file.is_dir()
        )
    return [path] if path.exists() or path.is_symlink() else []


def _plain(file: Path) -> bool:
    return not file.name.startswith((".", "_"))
