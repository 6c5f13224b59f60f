"""Images and templates are told by what they are: as bytes, base64, hexadecimal, data URLs, lists and JSON."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import struct

import polars as pl
import pytest

from connectors.identifiers import likeness
from contracts.residual import Kind

DRAW = random.Random(1)
PIXELS = DRAW.randbytes(400)
IMAGES = {
    "jpeg": b"\xff\xd8\xff\xe0\x00\x10JFIF\0\1\1" + PIXELS,
    "jpeg of a camera": b"\xff\xd8\xff\xe1\x10\x00Exif\0\0" + PIXELS,
    "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + PIXELS,
    "gif": b"GIF89a\x10\0\x10\0" + PIXELS,
    "webp": b"RIFF\x90\1\0\0WEBPVP8 " + PIXELS,
    "bmp": b"BM\x90\1\0\0\0\0\0\0\x36\0\0\0" + PIXELS,
    "tiff": b"II*\0\x08\0\0\0" + PIXELS,
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0" + PIXELS,
    "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + PIXELS,
}
TEMPLATES = {
    "finger minutiae": b"FMR\0 20\0" + PIXELS,
    "face record": b"FAC\x00010\0" + PIXELS,
    "iris record": b"IIR\x00030\0" + PIXELS,
}
EVERY = [
    *(pytest.param(Kind.IMAGE, content, id=name) for name, content in IMAGES.items()),
    *(pytest.param(Kind.BIOMETRIC, content, id=name) for name, content in TEMPLATES.items()),
]
FACE = [round(DRAW.gauss(0, 0.1), 5) for _ in range(128)]


def in_text(*texts: str | None) -> dict[Kind, int]:
    """What is found in these texts."""
    weighed = pl.Series("value", texts, dtype=pl.String).drop_nulls().value_counts(name="rows")
    return likeness.found_in_text(likeness.suspects(weighed))


@pytest.mark.parametrize(("kind", "content"), EVERY)
def test_bytes(kind: Kind, content: bytes) -> None:
    assert likeness.found_in_bytes(pl.Series([content, None, b"no", content])) == {kind: 2}


@pytest.mark.parametrize(("kind", "content"), EVERY)
def test_text_that_spells_bytes(kind: Kind, content: bytes) -> None:
    plain, url_safe = base64.b64encode(content).decode(), base64.urlsafe_b64encode(content).decode()
    lines = base64.encodebytes(content).decode()
    for text in (
        plain,
        url_safe,
        lines,
        f"photo: {plain}",
        content.hex(),
        content.hex().upper(),
        f"\\x{content.hex()}",
        f"0x{content.hex()}",
    ):
        assert in_text("nothing", text, None) == {kind: 1}, text[:20]
    assert in_text(json.dumps({"remark": plain})) == {kind: 1}


def test_data_urls_whatever_the_format() -> None:
    text = f"data:image/x-unheard-of;base64,{base64.b64encode(PIXELS).decode()}"
    assert in_text(text, text.replace("data:image/", "DATA:IMAGE/")) == {Kind.IMAGE: 2}
    assert in_text(f"<img src='{text}'>") == {Kind.IMAGE: 1}


@pytest.mark.parametrize("numbers", [FACE, FACE * 4, FACE * 32, FACE[:64]], ids=len)
def test_vectors(numbers: list[float]) -> None:
    assert in_text(json.dumps(numbers), json.dumps(numbers, indent=1), "[1.0, 2.0]") == {Kind.VECTOR: 2}
    for dtype in (pl.List(pl.Float64), pl.List(pl.Float32), pl.Array(pl.Float32, len(numbers))):
        assert likeness.vectors(pl.Series([numbers, None], dtype=dtype)) == {Kind.VECTOR: 1}
    packed = struct.pack(f"<{len(numbers)}f", *numbers)
    assert likeness.found_in_bytes(pl.Series([packed])) == {Kind.VECTOR: 1}


def test_what_is_none() -> None:
    digests = [hashlib.sha512(b"%d" % number) for number in range(20_000)]
    others = [
        *(digest.hexdigest() for digest in digests),
        *(base64.b64encode(digest.digest()).decode() for digest in digests),
        json.dumps(FACE[:63]), json.dumps(FACE * 33), json.dumps(list(range(128))), json.dumps([FACE[:64]] * 2),
        "https://example.com/9j/" + "a" * 300, "/9j/short", "iVBORw0KGgo", "data:image/png;base64,", "BM",
        "Qk0" + "a" * 300,
        "文字" * 300, "1.5, " * 100,
    ]  # fmt: skip
    assert in_text(*others) == {}
    draw = random.Random(4)
    assert likeness.found_in_bytes(pl.Series([draw.randbytes(512) for _ in range(2000)])) == {}
    assert likeness.found_in_bytes(pl.Series([b"", b"BM", b"text that is long enough" * 40, bytes(512)])) == {}
    assert likeness.vectors(pl.Series([FACE[:63], FACE * 33, [], None], dtype=pl.List(pl.Float64))) == {}
