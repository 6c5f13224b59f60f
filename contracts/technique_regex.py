"""The technique `regex`, and what may stand in its pattern.

A pattern is carried out by Rust's engine, in linear time. Contracts are read where that engine is not:
so only what Rust and Python write alike passes here, and the gateway's own engine compiles it once more
before it reads a row.
"""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from msgspec import Meta

from contracts.dtypes import STRING, DType
from contracts.technique import Family, Label, Technique

# What one of the two engines has and the other has not, or reads differently.
_OTHER_SYNTAX: tuple[tuple[str, str], ...] = (
    (r"\(\?(?![:iP]|i:)|\(\?P[=>]", "look-around, atomic groups, conditions and inline flags but (?i)"),
    (r"\\[1-9kgGZzBQE]", "back-references, \\Z, \\z and \\B"),
    (r"(?:[*+?]|\})\+", "possessive repetition"),
    (r"\[[^\]]*(?:\[|&&|--|~~|\|\|)", "classes within classes"),
    (r"\\[xuUN]", "characters by number; write the character itself"),
    (r"[^\S ]", "line breaks and tabs; write \\s"),
)
_UNICODE_CLASS = re.compile(r"\\[pP]\{\^?[A-Za-z_]{1,40}\}")
_REFERENCE = re.compile(r"\$(?:\{([^}]*)\})?")


class Regex(Technique, frozen=True, kw_only=True, tag="regex"):
    r"""Every match of `pattern` becomes `replacement`, in which `${1}` or `${name}` is what a group matched.

    Precondition: text. The pattern is of Rust's regex crate, which takes time linear in the text; no
    look-around or back-references, and it does not match the empty text.
    Output: text. A value that loses fewer than `min_masked` characters, one without a match above all,
    becomes `other`: no value passes unchanged. Counted is what is neither left as it stood nor brought back by
    a group.
    Residual risk: what the pattern leaves; it counts as a quasi-identifier. Of a category with a fixed shape
    the standard allows it not: use partial, whose remnant can be counted. Of a list each element is masked; how
    many there are shows, and in which order.
    Source: ISO/IEC 20889, masking (of a direct identifier in part).

    >>> Regex(pattern="^[^@]+", replacement="***").accepts(STRING)
    True
    """

    pattern: Annotated[str, Meta(min_length=1, max_length=200, description="a pattern of 1 to 200 characters")]
    replacement: Annotated[str, Meta(max_length=64, description="a text of at most 64 characters")]
    min_masked: Annotated[int, Meta(ge=1, le=64, description="a whole number from 1 to 64")] = 4
    other: Label = "other"

    family: ClassVar[Family] = Family.PARTIAL
    strength: ClassVar[int] = 2
    kinds: ClassVar[tuple[str, ...]] = ("string", "list")
    each: ClassVar[bool] = True
    output: ClassVar[DType | None] = STRING

    def __post_init__(self) -> None:
        compiled = _compiled(self.pattern)
        if compiled.search(""):
            raise ValueError("pattern: matches the empty text, so it would match everywhere; ask for one character")
        groups = {str(number) for number in range(1, compiled.groups + 1)} | compiled.groupindex.keys()
        for found in _REFERENCE.finditer(self.replacement):
            if found[1] not in groups:
                allowed = ", ".join("${" + group + "}" for group in sorted(groups)) or "none, for it has no groups"
                raise ValueError(f"replacement: {found[0]!r} is no group of the pattern; allowed: {allowed}")

    @property
    def brought_back(self) -> str:
        """The replacement without its own text: only what groups bring back of a match."""
        return "".join(found[0] for found in _REFERENCE.finditer(self.replacement))


def _compiled(pattern: str) -> re.Pattern[str]:
    """The pattern as Python reads it. Raises ValueError for what Rust would not read, or not so."""
    plain = _UNICODE_CLASS.sub(r"\\w", pattern)
    bare = re.sub(r"\\\\", "", plain)
    for syntax, name in _OTHER_SYNTAX:
        if re.search(syntax, bare):
            raise ValueError(f"pattern: not allowed here are {name}")
    try:
        return re.compile(plain)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"pattern: no regular expression: {str(error)[:80]}") from None
