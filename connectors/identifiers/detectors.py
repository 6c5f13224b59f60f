"""Detectors of direct identifiers in text and in numbers: shapes first, check digits over what has the shape.

    suspects(weighed)         the texts that could hold something
    found_in_text(weighed)    {kind: rows}
    found_numbers(values)     {kind: rows}, and how many rows were long enough

Detectors find what has the form of an identifier. **They never prove absence**: names, addresses and what is
written in words, split over columns or spelt unusually pass them all. What each one cannot tell stands with it.

A token is a longest run of ASCII letters and digits, so that no identifier is found inside a pseudonym, a hash
or another code; Chinese around it is no part of it. Full-width letters and digits are read as ordinary ones.
Digits on both sides of a point are one number. What is partly masked has lost its form.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import polars as pl

from connectors.identifiers import check_digits
from contracts.residual import Kind

Counts = dict[Kind, int]

_PLAIN = list("0123456789@.+-ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_WIDE = [chr(ord(letter) + 0xFEE0) for letter in _PLAIN]

# GB/T 2260 provinces; 9: foreign residents, and numbers that are made up for tests.
_PROVINCE = "(?:1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3]|9[0-9])"
_MOBILE = "1(?:3[0-9]|4[5-9]|5[0-35-9]|6[2567]|7[0-8]|8[0-9]|9[0-9])[0-9]{8}"
_CARD = (
    "(?:62[0-9]{14,17}|81[0-7][0-9]{13,16}|4[0-9]{15}|4[0-9]{18}|5[1-5][0-9]{14}|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}"
    "|7[01][0-9]|720)[0-9]{12}|3[47][0-9]{13}|35(?:2[89]|[3-8][0-9])[0-9]{12}|3(?:0[0-5]|[689][0-9])[0-9]{11}"
    "|6(?:011|5[0-9]{2}|4[4-9][0-9])[0-9]{12}|9558[0-9]{12,15}|60(?:1382|3367)[0-9]{10,13})"
)
# Country codes of ITU-T E.164 by their first digits: those of one digit, of two, and of three.
_COUNTRY = (
    "(?:1[2-9][0-9]{2}|7[0-9]{3}|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]"
    "|2[1234569][0-9]|3[578][0-9]|42[0-9]|5[09][0-9]|6[789][0-9]|8[0578][0-9]|9[679][0-9])"
)
_PLACE = "[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼]"
_PLATE = (
    f"{_PLACE}[A-HJ-NP-Z][·•.\\- ]?"
    "(?:[A-HJ-NP-Z0-9]{4}[A-HJ-NP-Z0-9挂学警港澳]|[DF][A-HJ-NP-Z0-9][0-9]{4}|[0-9]{5}[DF])"
)
_LANDLINE = "0(?:10|2[0-57-9]|[3-9][0-9]{2})(?:[- ]|[)）] ?)[2-8][0-9]{6,7}"
_SIX = "(?:[23][0-9A-Fa-f]{3}|[Ff][CcDdEe][0-9A-Fa-f]{2}):[0-9A-Fa-f]{0,4}:"  # public, and of one network
# Second line of a passport's machine readable zone; the check digits of its fields and of the whole.
_MRZ = "[A-Z0-9<]{9}[0-9][A-Z<]{3}[0-9]{7}[MFX<][0-9]{7}[A-Z0-9<]{14}[0-9<][0-9]"

# Whatever a detector below finds, this finds too: it is the one expression that every value is held against.
_CANDIDATE = "|".join(
    (
        "(?:^|[^0-9A-Za-z])[A-Za-z]{0,6}[0-9](?:[ ()（）-]{0,2}[0-9]){10}",
        "[+][1-9]",
        "(?:^|[^0-9A-Za-z])[1-9AGHNY][1-59A-C][0-9]{6}[0-9A-Z]{10}",
        "[0-9]{7}[MFX<][0-9]{7}",
        "[0-9A-Za-z_%+-]@[0-9A-Za-z]",
        "[0-9][.][0-9]{1,3}[.][0-9]{1,3}[.][0-9]",
        _SIX,
        f"{_PLACE}[A-HJ-NP-Za-hj-np-zＡ-Ｚａ-ｚ]",
        "护照|[Pp](?:assport|ASSPORT)",
        "[０-９＠＋]",
    )
)


Check = Callable[[pl.Expr], pl.Expr]


@dataclass(frozen=True, slots=True)
class Detector:
    """Finds one kind in a column of texts: what `pattern` extracts, if it has the `shape` and the `check` holds.

    `of` names the reading that it extracts from: `text` as it is; `glued`, where points between digits are
    letters; `upper`, the text in upper case. `before` is what the pattern needs in front of the find and is no
    part of it. Before `shape` sees the find, `lead` is cut off its beginning and, unless it is taken `whole`,
    everything but letters and digits is taken out.
    """

    kind: Kind
    of: str
    pattern: str
    shape: str
    check: Check | None = None
    lead: str = ""
    before: str = "^$"
    whole: bool = False


def _address(token: pl.Expr) -> pl.Expr:
    return token.map_batches(lambda values: pl.Series([_tells(text) for text in values], dtype=pl.Boolean))


def _tells(text: str) -> bool:
    """Whether an IP address is one that tells a device apart. Networks, loopback, multicast do not."""
    bare, slash, length = text.rstrip(".:" if not text.endswith("::") else ".").partition("/")
    try:
        found = ipaddress.ip_address(bare)
    except ValueError:
        return False
    if slash and int(length or 0) < found.max_prefixlen:
        return False
    if found.is_loopback or found.is_multicast or found.is_unspecified or int(found) >> (found.max_prefixlen - 8) == 0:
        return False
    return not (bare.endswith((".0", ".255", "::")) or found.is_reserved)


_TOKEN = "[0-9A-Za-z]{11,}"  # noqa: S105 - longest runs, so that shapes match whole ones
_EDGE = "(?-u:\\b)"
_GROUPED_CARD = f"{_EDGE}[0-9]{{4}}(?:[ -][0-9]{{4}}){{3}}(?:[ -]?[0-9]{{1,3}})?{_EDGE}"

_CITIZEN = f"{_PROVINCE}[0-9]{{15}}[0-9Xx]"

DETECTORS = (
    # Region (province), birth date and check character. Of random 18-digit numbers 1 in 40,000 passes; the old
    # numbers of 15 digits, which have no check character, are not found.
    Detector(Kind.NATIONAL_ID, "glued", _TOKEN, _CITIZEN, check_digits.citizen_id, "^(?i:id|no|sfz)"),
    Detector(
        Kind.NATIONAL_ID,
        "text",
        f"{_EDGE}(?:[1-9][0-9]{{5}}[ -][0-9]{{4}}[ -]?[0-9]{{4}}[ -]?|[1-9][0-9]{{13}}[ -])[0-9]{{3}}[0-9Xx]{_EDGE}",
        _CITIZEN,
        check_digits.citizen_id,
    ),
    # Length and beginning of a known issuer, and Luhn. Of other numbers that begin and end like a card's, 1 in 10.
    Detector(Kind.BANK_CARD, "glued", _TOKEN, _CARD, check_digits.luhn),
    Detector(Kind.BANK_CARD, "text", _GROUPED_CARD, _CARD, check_digits.luhn),
    # No check digit: every number of eleven digits that begins like a mobile's is taken for one.
    Detector(
        Kind.PHONE,
        "glued",
        _TOKEN,
        f"(?:0{{0,2}}86)?{_MOBILE}",
        lead="^(?i:tel|mobile|mob|phone|cell|no|sj|dh)",
    ),
    Detector(Kind.PHONE, "text", f"{_EDGE}1[3-9][0-9][ -][0-9]{{4}}[ -][0-9]{{4}}{_EDGE}", _MOBILE),
    # Fixed lines with area code and a separator behind it; without one they look like any number.
    Detector(Kind.PHONE, "text", f"{_EDGE}{_LANDLINE}{_EDGE}", "[0-9]+"),
    # Other countries' only as they are written for them: plus, country code, eight digits or more in all.
    Detector(Kind.PHONE, "text", "[+][1-9](?:[ ().-]{0,2}[0-9]){6,14}[0-9A-Za-z]*", f"{_COUNTRY}[0-9]{{7,12}}"),
    # No check digit; house numbers after a place such as 宁 may look like one.
    Detector(Kind.PLATE, "upper", f"{_PLATE}[0-9A-Z]*", _PLATE),
    # After a space, a bracket, a separator or Chinese; so what is left of a masked one, z***g@b.cn, is none.
    Detector(
        Kind.EMAIL,
        "text",
        "(?:^|[\\s<(\\[{\"'=:;,/|、。《【：，；（\u4e00-\u9fff])[0-9A-Za-z_](?:[0-9A-Za-z._%+-]*[0-9A-Za-z_])?"
        "@[0-9A-Za-z](?:[0-9A-Za-z.-]*[0-9A-Za-z])?[.][A-Za-z]{2,}",
        ".*",
        lambda token: ~token.str.contains("[._%+-]{2}"),
        before="^[^0-9A-Za-z_]",
        whole=True,
    ),
    # Four numbers and points are a device's address, a section's or a version's: v1.2.3.4 is none.
    Detector(
        Kind.IP,
        "text",
        "[0-9A-Za-z]+(?:[.][0-9A-Za-z]+){3,}(?:/[0-9]{1,2})?",
        "[0-9]{1,3}(?:[.][0-9]{1,3}){3}(?:/[0-9]+)?",
        _address,
        whole=True,
    ),
    Detector(
        Kind.IP,
        "text",
        f"{_EDGE}{_SIX}[0-9A-Za-z:]*(?:/[0-9]{{1,3}})?",
        "[0-9A-Fa-f:]+(?:/[0-9]+)?",
        _address,
        whole=True,
    ),
    # By its machine readable zone; or by the word before it, since the number alone has no check digit and looks
    # like any code.
    Detector(Kind.PASSPORT, "text", _MRZ, ".*", check_digits.travel_document, whole=True),
    Detector(
        Kind.PASSPORT,
        "upper",
        "(?:护照|PASSPORT)[^0-9A-Z]{0,3}(?:号码|号|NUMBER|NO)?[^0-9A-Z]{0,6}[A-Z]{1,2}[0-9]{7,8}[0-9A-Z]*",
        ".*[^A-Z](?:[EGDSPHMK][0-9]{8}|[A-Z]{2}[0-9]{7})",
        whole=True,
    ),
    # Registering office, province, and two check characters: of random 18-digit numbers 1 in 1,000.
    Detector(
        Kind.CREDIT_CODE,
        "glued",
        _TOKEN,
        f"[1-9AGHNY][1-59A-C]{_PROVINCE}[0-9]{{4}}[0-9A-HJ-NP-RTUW-Y]{{8}}[0-9X][0-9A-HJ-NP-RTUW-Y]",
        check_digits.credit_code,
    ),
)


def suspects(weighed: pl.DataFrame) -> pl.DataFrame:
    """Of texts (`value`), those that any detector could find something in."""
    return weighed.filter(weighed["value"].str.contains(_CANDIDATE))


def found_in_text(weighed: pl.DataFrame) -> Counts:
    """In how many rows each kind is found: of distinct texts (`value`) and how often each occurs (`rows`)."""
    hits = written(weighed["value"]).unique(("at", "kind"))
    rows = hits.select("kind", rows=weighed["rows"].gather(hits["at"])).group_by("kind").agg(pl.col("rows").sum())
    return {Kind(kind): count for kind, count in rows.iter_rows()}


def written(texts: pl.Series, kinds: Collection[str] = tuple(Kind)) -> pl.DataFrame:
    """Everything of these kinds that is found, as `narrowed` texts have it, case aside: place of the text (`at`),
    `kind`, the words themselves (`token`)."""
    text = narrowed(texts)
    pointed = text.str.contains("[0-9][.][0-9]").any()
    read = {
        "text": text,
        "glued": text.str.replace_all("([0-9])[.]([0-9])", "${1}d${2}") if pointed else text,
        "upper": text.str.to_uppercase(),
    }
    wanted = [detector for detector in DETECTORS if detector.kind in kinds]
    tokens = {(by.of, by.pattern): _tokens(read[by.of], by.pattern) for by in wanted}
    return pl.concat([_NOTHING, *(_hits(by, tokens[by.of, by.pattern]) for by in wanted)])


_NOTHING = pl.DataFrame(schema={"at": pl.UInt32, "kind": pl.String, "token": pl.String})


def narrowed(texts: pl.Series) -> pl.Series:
    """The texts with ordinary letters and digits for full-width ones."""
    if texts.str.len_bytes().sum() == texts.str.len_chars().sum():
        return texts
    return texts.str.replace_many(_WIDE, _PLAIN)


def _tokens(values: pl.Series, pattern: str) -> pl.DataFrame:
    """Everything that the pattern extracts, and the place of the value it comes from: `at`, `token`."""
    at = values.str.contains(pattern).arg_true()
    return pl.DataFrame({"at": at, "token": values.gather(at).str.extract_all(pattern)}).explode("token")


def _hits(detector: Detector, tokens: pl.DataFrame) -> pl.DataFrame:
    """What of these tokens the detector means."""
    token = pl.col("token").str.replace(detector.before, "")
    bare = token.str.replace(detector.lead, "") if detector.lead else token
    if not detector.whole and detector.pattern != _TOKEN:
        bare = bare.str.replace_all("[^0-9A-Za-z\u4e00-\u9fff]", "")
    shaped = tokens.select("at", token, bare=bare).filter(pl.col("bare").str.contains(f"(?s)^(?:{detector.shape})$"))
    if detector.check is not None and not shaped.is_empty():
        shaped = shaped.filter(detector.check(pl.col("bare")))
    return shaped.select("at", pl.lit(str(detector.kind)).alias("kind"), "token")


# Whole numbers are read where they are as long as an identifier, and by share: a table of amounts has one that
# looks like a phone number, a column of phone numbers has little else. 18-digit ids that end in X are no numbers.
_RANGES = (
    (Kind.PHONE, 11, 13_000_000_000, 19_999_999_999),
    (Kind.PHONE, 13, 8_613_000_000_000, 8_619_999_999_999),
    (Kind.BANK_CARD, 14, 30_000_000_000_000, 39_999_999_999_999),
    (Kind.BANK_CARD, 15, 340_000_000_000_000, 379_999_999_999_999),
    (Kind.BANK_CARD, 16, 2_221_000_000_000_000, 9_999_999_999_999_999),
    (Kind.BANK_CARD, 17, 62_000_000_000_000_000, 96_000_000_000_000_000),
    (Kind.NATIONAL_ID, 18, 110_000_000_000_000_000, 999_999_999_999_999_999),
    (Kind.BANK_CARD, 19, 4_000_000_000_000_000_000, 9_600_000_000_000_000_000),
)
LONG = 10_000_000_000  # what is shorter is no identifier, and is not counted in the share either
MOST = 0.5  # of the long numbers of a column, from which on they are taken for what they look like


def found_numbers(values: pl.Series) -> tuple[Counts, int]:
    """In how many rows each kind is found, and how many rows hold long numbers at all. `values` are integers,
    floats or decimals; of the latter two, those without a fraction."""
    if values.dtype.is_float():
        values = values.filter(values.is_finite())  # where a value is missing some programs write no number
    highest = values.max()
    if not isinstance(highest, int | float) and highest is not None:
        highest = float(highest)  # type: ignore[arg-type]
    if highest is None or highest < LONG:
        return {}, 0
    long = values.filter((values >= LONG) & values.is_not_null())
    number = pl.col("number")
    frame = pl.DataFrame({"number": _whole(long)}).drop_nulls()
    shaped = pl.any_horizontal(number.is_between(low, high) for _, _, low, high in _RANGES)
    text = frame.filter(shaped).get_column("number").cast(pl.String).alias("value")
    return found_in_text(text.value_counts(name="rows")), len(long)


def _whole(values: pl.Series) -> pl.Series:
    """As 64-bit whole numbers; null where there is a fraction, or no room."""
    if values.dtype.is_integer():
        return values.cast(pl.UInt64, strict=False)
    cut = values.cast(pl.UInt64, strict=False)
    return cut.zip_with(cut.cast(values.dtype, strict=False) == values, pl.Series([None], dtype=pl.UInt64))


def telling(counts: Mapping[Kind, int], long: int) -> Counts:
    """Of the counts in a column of numbers, those that are more than chance."""
    return {kind: rows for kind, rows in counts.items() if rows >= long * MOST}
