"""Detectors: published examples, what a city makes, near misses, and pseudonyms that must never look like anyone."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import random
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.identifiers import check_digits, detectors
from contracts.residual import Kind
from examples import city

quick = settings(max_examples=150, deadline=None)
CITIZEN = "11010519491231002X"  # the example of GB 11643
CARD = "4111111111111111"  # a card brand's own test number
CREDIT = "91350100M000100Y43"  # the example of GB 32100
MRZ = "L898902C36UTO7408122F1204159ZE184226B<<<<<10"  # the specimen of ICAO 9303 part 4


def kinds(*texts: str | None) -> dict[str, int]:
    """What is found in these texts, and in how many."""
    return _found(pl.Series(texts, dtype=pl.String))


def _found(values: pl.Series) -> dict[str, int]:
    weighed = values.alias("value").drop_nulls().value_counts(name="rows")
    return dict(detectors.found_in_text(detectors.suspects(weighed)))


FOUND = {
    Kind.NATIONAL_ID: [
        CITIZEN, CITIZEN.lower(), f"身份证{CITIZEN}号", f"身份证号：{CITIZEN}。", f"id{CITIZEN}", f"scan_{CITIZEN}.jpg",
        "110105 19491231 002X", "110105-1949-1231-002X", "11010519491231 002X", "１１０１０５１９４９１２３１００２Ｘ",
        f"a {CITIZEN},{CITIZEN}",
    ],
    Kind.BANK_CARD: [
        CARD, "4111 1111 1111 1111", "4111-1111-1111-1111", "卡号5555555555554444",
        "378282246310005", "6011111111111117",
        "3530111333300000", "30569309025904", "6200000000000005", "6222 0000 0000 0000 004",
    ],
    Kind.PHONE: [
        "13800138000", "电话13800138000转3", "Tel13800138000", "8613800138000", "008613800138000", "+86 138 0013 8000",
        "138-0013-8000", "138 0013 8000", "１３８００１３８０００", "010-62345678", "(010)62345678",
        "（０１０）６２３４５６７８", "（010）62345678", "0755 26712345",
        "+1 (212) 555-1234", "+852 2123 4567", "+44 20 7946 0958",
    ],
    Kind.PLATE: ["京A12345", "车牌京A·12345", "粤BD12345", "粤B12345D", "京a12345", "沪A1234学", "粤Z1234港"],
    Kind.EMAIL: [
        "zhang@example.com", "邮箱zhang.san+x@mail.example.cn。", "a@b.cn;c@d.cn", "<z@b.org>",
        "mailto:z@b.org", "x＠b.cn",
    ],
    Kind.IP: [
        "10.1.2.3", "from 192.168.1.20:8080", "8.8.8.8/32", "2001:db8::1", "ip:2001:db8::1",
        "fe80::1ff:fe23:4567:890a",
    ],
    Kind.PASSPORT: [
        MRZ, f"P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<\n{MRZ}", "护照号：E12345678",
        "Passport No. EA1234567",
    ],
    Kind.CREDIT_CODE: [CREDIT, f"统一社会信用代码{CREDIT}（副本）"],
}  # fmt: skip

MISSED = [
    "110105194912310021", "11010519491331002X", "11010518491231002X", f"{CITIZEN}1",
    f"a{CITIZEN}b", "00010519491231002X",
    "4111111111111112", "1111111111111117", f"0.{CARD}", f"{CARD}00000", f"x{CARD}", "4111 1111 1111 1112",
    "12800138000", "15400138000", "138001380001", "0.13800138000", "138****0000", "138********",
    "1380013800", "A13800138000",
    "010-1234567", "2024-01-02 13:14:15.123456", "20241128123456", "1732800000000", "+0800",
    "+20240101", "GMT+08:00",
    "京A123456", "京I12345", "京A1234", "京A***45", "A12345",
    "z***g@b.cn", "z****@b.cn", "z....g@b.cn", "z----g@b.cn", "@b.cn", "z@b", "a @ b.cn", "z…g@b.cn", "★★★g@b.cn",
    "10.1.2", "10.1.2.0", "10.1.2.0/24", "10.1.2.3/24", "1.2.3.4.5", "v1.2.3.4", "256.1.1.1",
    "127.0.0.1", "0.0.0.0", "239.1.1.1",
    "2001:db8::/32", "2001:db8::", "12:34:56", "std::vector", "fade::bed", "00:1a:2b:3c:4d:5e", "::1",
    "E12345678", "护照", MRZ.replace("7408122", "7408123"),
    CREDIT.replace("43", "44"), CREDIT.replace("Y", "A"), CREDIT + "0", "",
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in FOUND.items() for text in texts])
def test_is_found(kind: Kind, text: str) -> None:
    assert kinds("nothing", text, text, None) == {kind: 2}


@pytest.mark.parametrize("text", MISSED)
def test_is_not_found(text: str) -> None:
    assert kinds(text) == {}


def test_rows_are_counted_not_values() -> None:
    assert kinds(CITIZEN, CITIZEN, f"{CITIZEN} {CARD}", "x") == {Kind.NATIONAL_ID: 3, Kind.BANK_CARD: 1}


# --- check digits, each computed another way ---------------------------------------------------


def _citizen(text: str) -> bool:
    total = 0
    for digit in text[:17]:
        total = (total + int(digit)) * 2 % 11
    return "0123456789X"[(12 - total) % 11] == text[17]


def _luhn(text: str) -> bool:
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(text))]
    return sum(sum(divmod(digit, 10)) for digit in doubled) % 10 == 0


def _credit(text: str) -> bool:
    alphabet = "0123456789ABCDEFGHJKLMNPQRTUWXY"
    whole = sum(alphabet.index(letter) * pow(3, at, 31) for at, letter in enumerate(text[:17]))
    own = sum(int(letter, 36) * weight for letter, weight in zip(text[8:16], (3, 7, 9, 10, 5, 8, 4, 2), strict=True))
    return (whole + alphabet.index(text[17])) % 31 == 0 and text[16] == "0X987654321"[own % 11]


def test_check_digits_are_those_of_the_definitions() -> None:
    draw = random.Random(5)
    numbers = ["".join(draw.choices("0123456789", k=draw.randint(13, 19))) for _ in range(5000)]
    ids = [
        f"110101{draw.randint(1900, 2049)}0{draw.randint(1, 9)}{draw.randint(10, 28)}{draw.randint(100, 999)}"
        for _ in range(5000)
    ]
    ids = [text + draw.choice("0123456789X") for text in ids]
    letters = "0123456789ABCDEFGHJKLMNPQRTUWXY"
    codes = [
        "91350100" + "".join(draw.choices(letters, k=8)) + last + own
        for _ in range(300)
        for last in "0123456789X"
        for own in draw.sample(letters, 8)
    ]
    for texts, ours, plainly in (
        (numbers, check_digits.luhn, _luhn),
        (ids, check_digits.citizen_id, _citizen),
        (codes, check_digits.credit_code, _credit),
    ):
        frame = pl.DataFrame({"t": texts}).with_columns(ours=ours(pl.col("t")))
        assert frame["ours"].to_list() == [plainly(text) for text in texts]
        assert frame["ours"].any()


@quick
@given(
    text=st.from_regex(r"[1-9][0-9]{16}", fullmatch=True), at=st.integers(0, 17), other=st.sampled_from("0123456789")
)
def test_one_wrong_digit_is_noticed(text: str, at: int, other: str) -> None:
    """Mod 11-2 finds every single wrong digit, Luhn too."""
    total = 0
    for digit in text:
        total = (total + int(digit)) * 2 % 11
    born = text[:6] + "19700101" + text[14:]
    total = 0
    for digit in born:
        total = (total + int(digit)) * 2 % 11
    citizen = born + "0123456789X"[(12 - total) % 11]
    wrong = citizen[:at] + other + citizen[at + 1 :]
    frame = pl.DataFrame({"t": [citizen, wrong]}).select(check_digits.citizen_id(pl.col("t"))).to_series()
    assert frame.fill_null(value=False).to_list() == [True, citizen == wrong]
    card = next(text + last for last in "0123456789" if _luhn(text + last))
    wrong = card[:at] + other + card[at + 1 :]
    assert pl.DataFrame({"t": [card, wrong]}).select(check_digits.luhn(pl.col("t"))).to_series().to_list() == [
        True,
        card == wrong,
    ]


# --- what a city makes -------------------------------------------------------------------------

CITY = city.residents(3000, seed=11)
around = st.text(
    st.characters(exclude_categories=("Cs", "Nd", "No", "Nl"), exclude_characters="+-.@<*#_·•"), max_size=12
).filter(lambda text: not any(letter.isascii() and letter.isalnum() for letter in text) and text.isprintable())


def test_every_number_of_the_city_is_found_and_no_address() -> None:
    found = {name: _found(CITY[name]) for name in CITY.columns if CITY[name].dtype == pl.String}
    assert found == {
        "citizen_id": {Kind.NATIONAL_ID: CITY.height},
        "phone": {Kind.PHONE: CITY.height - CITY["phone"].null_count()},
        "patient_name": {}, "sex": {}, "home_address": {}, "home_postcode": {},
    }  # fmt: skip


@quick
@given(before=around, after=around, which=st.integers(0, 2999))
def test_it_is_found_inside_any_sentence_and_not_with_one_digit_changed(before: str, after: str, which: int) -> None:
    citizen = CITY["citizen_id"][which]
    assert kinds(before + citizen + after) == {Kind.NATIONAL_ID: 1}
    changed = citizen[:16] + str((int(citizen[16]) + 1) % 10) + citizen[17]
    assert kinds(before + changed + after) == {}


# --- what must never look like anyone ----------------------------------------------------------

MANY = 1_000_000


@pytest.mark.parametrize(
    "spelling",
    [
        pytest.param(lambda digest: digest[:16].hex(), id="hex"),
        pytest.param(lambda digest: digest[:16].hex().upper(), id="upper hex"),
        pytest.param(lambda digest: base64.b32encode(digest[:16]).decode().rstrip("="), id="base32"),
        pytest.param(lambda digest: digest.hex(), id="sha256"),
        pytest.param(
            lambda digest: "-".join(
                (digest[:4].hex(), digest[4:6].hex(), digest[6:8].hex(), digest[8:10].hex(), digest[10:16].hex())
            ),
            id="uuid",
        ),
    ],
)
def test_no_pseudonym_looks_like_anyone(spelling: object) -> None:
    """A million of them: a release of pseudonyms must not fail by chance."""
    made = [spelling(hashlib.sha256(b"%d" % number).digest()) for number in range(MANY)]  # type: ignore[operator]
    assert kinds(*made) == {}


def test_masked_values_look_like_nobody() -> None:
    draw = random.Random(3)
    geohash = ["".join(draw.choices("0123456789bcdefghjkmnpqrstuvwxyz", k=8)) for _ in range(100_000)]
    phones = [f"{phone[:3]}****{phone[-4:]}" for phone in CITY["phone"].drop_nulls()]
    ids = [f"{text[:6]}********{text[-4:]}" for text in CITY["citizen_id"]]
    labels = [f"{low}-{low + 9}" for low in range(0, 100, 10)] + ["[1930-01-01, 1950-01-01)", "2025-01-06", "2025-W02"]
    networks = [str(ipaddress.ip_network((address << 8, 24))) for address in range(1 << 16, 1 << 17, 97)]
    assert kinds(*geohash, *phones, *ids, *labels, *networks) == {}


@quick
@given(
    texts=st.lists(
        st.one_of(
            st.text(),
            st.text("0123456789-. +()<Xx@:/ABCDEF京护照９０", max_size=60),
            st.sampled_from([text for texts in FOUND.values() for text in texts]),
        ),
        max_size=6,
    )
)
def test_whatever_is_written_is_read(texts: list[str]) -> None:
    """No text breaks a detector, and none is counted more often than it is there."""
    assert all(rows <= len(texts) for rows in kinds(*texts).values())


# --- numbers -----------------------------------------------------------------------------------

PHONES = [13800138000 + number for number in range(200)]


@pytest.mark.parametrize("dtype", [pl.Int64, pl.UInt64, pl.Float64, pl.Decimal(20, 0), pl.Decimal(20, 2)], ids=str)
def test_numbers_that_are_identifiers_are_found(dtype: pl.DataType) -> None:
    values = pl.Series([*PHONES, None, 0]).cast(dtype)
    counts, long = detectors.found_numbers(values)
    assert (counts, long) == ({Kind.PHONE: 200}, 200)
    assert detectors.telling(counts, long) == {Kind.PHONE: 200}


@pytest.mark.parametrize(("kind", "number"), [(Kind.NATIONAL_ID, 110101199003070003), (Kind.BANK_CARD, int(CARD))])
def test_ids_and_cards_kept_as_numbers_are_found(kind: Kind, number: int) -> None:
    if kind is Kind.NATIONAL_ID:
        number = next(n for n in range(number // 10 * 10, number // 10 * 10 + 9) if _citizen(str(n)))
    counts, long = detectors.found_numbers(pl.Series([number] * 3, dtype=pl.Int64))
    assert detectors.telling(counts, long) == {kind: 3}


def test_missing_values_that_are_no_numbers_hide_nothing() -> None:
    counts, long = detectors.found_numbers(pl.Series([*map(float, PHONES), *([float("nan")] * 900), float("inf")]))
    assert detectors.telling(counts, long) == {Kind.PHONE: 200}


def test_an_amount_that_looks_like_a_phone_number_is_none() -> None:
    amounts = pl.Series([13_800_138_000, 25_000_000_000, 70_000_000_000, 5, 1_000, None])
    counts, long = detectors.found_numbers(amounts)
    assert (counts, long) == ({Kind.PHONE: 1}, 3)
    assert detectors.telling(counts, long) == {}


def test_serial_numbers_of_sixteen_digits_are_no_cards_when_one_in_ten_passes() -> None:
    counts, long = detectors.found_numbers(pl.Series(range(4_000_000_000_000_000, 4_000_000_000_010_000)))
    assert counts == {Kind.BANK_CARD: 1000}
    assert detectors.telling(counts, long) == {}


@pytest.mark.parametrize(
    "values",
    [
        pl.Series([13_800_138_000.5, 13_900_139_000.25]),
        pl.Series([float("nan"), float("inf"), -13_800_138_000.0]),
        pl.Series([Decimal("13800138000.50")]),
        pl.Series([-13_800_138_000]),
        pl.Series([], dtype=pl.Int64),
        pl.Series([None], dtype=pl.Float64),
        pl.Series([1_732_800_000_000, 1_732_800_000_000_000, 1_732_800_000_000_000_000]),
    ],
    ids=["fractions", "not finite", "decimal fraction", "negative", "empty", "nulls", "instants"],
)
def test_other_numbers_are_nothing(values: pl.Series) -> None:
    assert detectors.found_numbers(values)[0] == {}
