"""What is sealed, and turned back by its own key alone."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.masks import known_answers
from connectors.masks.ff1 import Ff1Cipher
from connectors.masks.masking import masked
from contracts import dtypes as d
from contracts import techniques
from contracts.errors import Reason, SluicegateError
from contracts.techniques import parse
from tests.connectors.masks.trying import Keys, Words, back, mask, plan_of, quick

BASIS = {"legal_basis": "dpv:LegalObligation"}
SIV: Words = {"mask": "aes_siv", "domain": "person", **BASIS}


def ff1_of(radix: int = 10, domain: str = "card") -> Words:
    return {"mask": "ff1", "domain": domain, "radix": radix, "unsafe_format_preserving": True, **BASIS}


@quick
@given(values=st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=10))
def test_what_is_sealed_joins_and_can_be_turned_back_by_its_own_key_alone(values: list[str]) -> None:
    sealed = mask(list(values), SIV, d.STRING).to_list()
    assert [back(SIV, text) for text in sealed] == values
    assert len(set(sealed)) == len(set(values))
    other = mask(list(values), SIV, d.STRING, Keys("another agreement")).to_list()
    domain = mask(list(values), {**SIV, "domain": "household"}, d.STRING).to_list()
    assert not set(sealed) & set(other)
    assert not set(sealed) & set(domain)
    for wrong in (other[0], domain[0], sealed[0][:-2] + f"{int(sealed[0][-2:], 16) ^ 1:02x}", "", "zz", values[0]):
        with pytest.raises(SluicegateError) as caught:
            back(SIV, wrong)
        assert caught.value.reason is Reason.DATA_INVALID
        assert values[0] not in str(caught.value) or len(values[0]) < 3


def test_numbers_and_dates_are_sealed_as_their_text_and_an_empty_text_is_null() -> None:
    assert back(SIV, mask([7], SIV, d.UINT8)[0]) == "7"
    assert back(SIV, mask([dt.date(2026, 1, 5)], SIV, d.DATE)[0]) == "2026-01-05"
    assert mask(["", None], SIV, d.STRING).to_list() == [None, None]


@quick
@given(
    data=st.data(),
    radix=st.sampled_from([2, 10, 16, 36]),
)
def test_format_preserving_encryption_keeps_length_and_digits_and_can_be_turned_back(
    data: st.DataObject, radix: int
) -> None:
    digits, words = "0123456789abcdefghijklmnopqrstuvwxyz"[:radix], ff1_of(radix)
    technique = parse(words)
    assert isinstance(technique, techniques.Ff1)
    least, most = technique.shortest, max(length for length in range(120) if Ff1Cipher(bytes(16), radix).takes(length))
    assert radix ** (least - 1) < 10**6 <= radix**least
    texts = st.integers(least, most).flatmap(lambda length: st.text(digits, min_size=length, max_size=length))
    values = data.draw(st.lists(texts, min_size=1, max_size=6, unique=True))
    result = mask(list(values), words, d.STRING).to_list()
    assert [len(after) for after in result] == [len(before) for before in values]
    assert set("".join(result)) <= set(digits)
    assert [back(words, after) for after in result] == values
    assert len(set(result)) == len(values)
    assert result != mask(list(values), words, d.STRING, Keys("another agreement")).to_list()


def test_what_the_cipher_does_not_take_never_passes() -> None:
    refused = ["", "12345", "138 0013", "１２３４５６７", "123456a", "1" * 33, "+123456", "1_234_567", "-1234567"]
    assert mask([*refused, None], ff1_of(), d.STRING).to_list() == ["other"] * len(refused) + [None]
    assert mask([-1234567, 12345], ff1_of(), d.INT64).to_list() == ["other", "other"]
    for wrong in ("12345", "123456a", "1" * 33, "1_234_567"):
        with pytest.raises(SluicegateError, match="no ff1 value"):
            back(ff1_of(), wrong)
    with pytest.raises(SluicegateError, match="no ff1 value"):
        back(ff1_of(36), "other")  # five digits of that radix, and no value's


def test_format_preserving_encryption_is_one_to_one_on_its_least_domain() -> None:
    every = [f"{number:06}" for number in range(10**6)]
    cipher = Ff1Cipher(b"k" * 32, 10)
    assert len(set(cipher.encrypt(every))) == 10**6


@pytest.mark.parametrize("vector", range(9))
def test_samples_of_the_cipher_are_turned_back_too(vector: int) -> None:
    size, radix, tweak, plain, enciphered = known_answers.FF1[vector]
    cipher = Ff1Cipher(bytes.fromhex(known_answers.FF1_KEY)[:size], radix)
    assert cipher.encrypt([plain, plain], bytes.fromhex(tweak)) == [enciphered] * 2
    assert cipher.decrypt([enciphered], bytes.fromhex(tweak)) == [plain]


@pytest.mark.parametrize("words", [SIV, ff1_of()], ids=str)
def test_a_cipher_says_nothing_of_its_key(words: Words) -> None:
    assert "6b6b" not in repr(Ff1Cipher(b"k" * 32, 10)) + str(vars(type(Ff1Cipher(b"k" * 32, 10))))

    class Weak:
        def key(self, domain: str) -> str:
            return "hunter2"

        draw = key

    with pytest.raises(SluicegateError) as caught:
        masked(pl.DataFrame({"v": ["a"]}).lazy(), plan_of(("v", words, d.STRING)), Weak())
    assert caught.value.reason is Reason.CONFIG_UNSAFE
    assert "hunter2" not in str(caught.value)
