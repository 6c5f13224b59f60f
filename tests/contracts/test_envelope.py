"""Envelopes under attack: every way to make one pass for what it is not."""

from __future__ import annotations

import base64
import copy
import hmac
import json
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.canonical import canonical
from contracts.envelope import (
    MAX_BYTES,
    MAX_SIGNATURES,
    Envelope,
    Kind,
    PublicKey,
    SigningKey,
    claimed_kid,
    countersign,
    sign,
    verify,
)
from contracts.errors import Reason, SluicegateError
from tests.papers import key

ALICE, BOB = key("alice"), key("bob")
PAYLOAD = {"agreement": "agreements/a-aaaaaaaaaa", "rows": 12, "fields": ["sex", "visit_ts"], "note": None}


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signature_with(header: dict[str, Any] | bytes, payload: Any = PAYLOAD, signer: SigningKey = ALICE) -> str:
    """A detached signature that is right in everything but its header."""
    head = b64(header if isinstance(header, bytes) else json.dumps(header).encode())
    return f"{head}..{b64(signer._private.sign(head.encode() + b'.' + canonical(payload)))}"


def header(**changed: Any) -> dict[str, Any]:
    right = {"alg": "EdDSA", "typ": Kind.RECEIPT.typ, "kid": ALICE.kid, "b64": False, "crit": ["b64"]}
    return {name: value for name, value in {**right, **changed}.items() if value is not ...}


def refused(envelope: Envelope, *keys: PublicKey, kind: Kind = Kind.RECEIPT) -> SluicegateError:
    with pytest.raises(SluicegateError) as caught:
        verify(kind, envelope, keys or (ALICE.public,))
    assert caught.value.reason in (Reason.SIGNATURE_INVALID, Reason.KEY_UNTRUSTED)
    return caught.value


def test_a_signed_payload_verifies_and_names_its_signers():
    both = sign(Kind.RECEIPT, PAYLOAD, ALICE, BOB)
    verified = verify(Kind.RECEIPT, both, [ALICE.public, BOB.public])
    assert verified.payload == PAYLOAD
    assert verified.signers == {ALICE.kid, BOB.kid}
    assert verify(
        Kind.RECEIPT, countersign(Kind.RECEIPT, sign(Kind.RECEIPT, PAYLOAD, ALICE), BOB), [ALICE.public, BOB.public]
    )
    assert Envelope.from_bytes(both.to_bytes()) == both
    assert claimed_kid(both.signatures[1]) == BOB.kid


def test_the_hand_made_signature_of_these_tests_is_right_before_it_is_bent():
    assert verify(Kind.RECEIPT, Envelope(PAYLOAD, (signature_with(header()),)), [ALICE.public]).signers == {ALICE.kid}


@pytest.mark.parametrize("signed", Kind)
@pytest.mark.parametrize("expected", Kind)
def test_a_signature_of_one_kind_is_none_of_another(signed, expected):
    envelope = sign(signed, PAYLOAD, ALICE)
    if signed is expected:
        assert verify(expected, envelope, [ALICE.public])
    else:
        assert refused(envelope, kind=expected).reason is Reason.SIGNATURE_INVALID


@pytest.mark.parametrize(
    "changed",
    [
        {"alg": "none"},
        {"alg": "None"},
        {"alg": "HS256"},
        {"alg": "ES256"},
        {"alg": "Ed25519"},
        {"alg": ...},
        {"typ": ...},
        {"typ": "JWT"},
        {"typ": "sluicegate-receipt+JWS"},
        {"b64": True},
        {"b64": 0},
        {"b64": ...},
        {"crit": ...},
        {"crit": []},
        {"crit": ["b64", "exp"]},
        {"crit": ["exp"]},
        {"crit": "b64"},
        {"kid": ...},
        {"kid": 7},
        {"kid": [ALICE.kid]},
        {"jku": "https://keys.example/jwks"},
        {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": ALICE.public.x}},
        {"x5u": "https://keys.example/chain.pem"},
        {"x5c": ["MIIB"]},
        {"cty": "json"},
        {"exp": 1},
    ],
    ids=str,
)
def test_any_other_header_is_refused_although_the_signature_is_good(changed):
    error = refused(Envelope(PAYLOAD, (signature_with(header(**changed)),)))
    assert error.reason is Reason.SIGNATURE_INVALID


@pytest.mark.parametrize(
    "raw", [b"[]", b"null", b"7", b'"x"', b"{", b"\xff\xfe", b'{"alg":"EdDSA","alg":"EdDSA"}', b"[" * 3000]
)
def test_a_header_that_is_no_json_object_is_refused(raw):
    refused(Envelope(PAYLOAD, (signature_with(raw),)))


def test_the_public_key_as_a_shared_secret_signs_nothing():
    for alg in ("HS256", "EdDSA"):
        head = b64(json.dumps(header(alg=alg)).encode())
        for secret in (ALICE.public.x.encode(), base64.urlsafe_b64decode(ALICE.public.x + "=")):
            forged = hmac.digest(secret, head.encode() + b"." + canonical(PAYLOAD), "sha256")
            refused(Envelope(PAYLOAD, (f"{head}..{b64(forged)}",)))
            refused(Envelope(PAYLOAD, (f"{head}..{b64(forged + forged)}",)))


def test_alg_none_without_a_signature_is_refused():
    head = b64(json.dumps(header(alg="none")).encode())
    refused(Envelope(PAYLOAD, (f"{head}..",)))


def test_a_key_in_the_header_does_not_bring_itself_in():
    mallory = key("mallory")
    bent = header(kid=mallory.kid, jwk={"kty": "OKP", "crv": "Ed25519", "x": mallory.public.x})
    refused(Envelope(PAYLOAD, (signature_with(bent, signer=mallory),)))


def test_a_foreign_signature_under_a_known_kid_is_refused():
    forged = Envelope(PAYLOAD, (signature_with(header(kid=ALICE.kid), signer=key("mallory")),))
    assert refused(forged).reason is Reason.SIGNATURE_INVALID


def test_an_unknown_key_is_named_in_the_error():
    error = refused(sign(Kind.RECEIPT, PAYLOAD, BOB))
    assert error.reason is Reason.KEY_UNTRUSTED
    assert error.metadata == {"kid": BOB.kid}


def test_one_bad_signature_fails_the_whole_envelope():
    good = sign(Kind.RECEIPT, PAYLOAD, ALICE)
    refused(countersign(Kind.RECEIPT, good, BOB))
    other = sign(Kind.RECEIPT, {**PAYLOAD, "rows": 13}, BOB).signatures
    refused(Envelope(PAYLOAD, (*good.signatures, *other)), ALICE.public, BOB.public)


def test_a_key_signs_once():
    once = sign(Kind.RECEIPT, PAYLOAD, ALICE)
    assert "twice" in refused(countersign(Kind.RECEIPT, once, ALICE)).message
    # Not even in another spelling of the same header.
    spaced = signature_with(json.dumps(header(), indent=1).encode())
    assert "twice" in refused(Envelope(PAYLOAD, (*once.signatures, spaced))).message


@pytest.mark.parametrize("count", [0, MAX_SIGNATURES + 1])
def test_no_signature_or_too_many(count):
    keys = [key(f"signer {number}") for number in range(count)]
    refused(sign(Kind.RECEIPT, PAYLOAD, *keys), *(one.public for one in keys))


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "a.b",
        "x" * 5000,
        "é..é",
        f"{b64(b'{}')}..{b64(bytes(64))}",
        "....",
        f"..{b64(bytes(64))}",
    ],
)
def test_what_is_no_detached_jws_is_refused(token):
    refused(Envelope(PAYLOAD, (token,)))
    assert claimed_kid(token) is None


def test_an_attached_payload_is_refused():
    head = b64(json.dumps(header()).encode())
    body = b64(canonical(PAYLOAD))
    signed = ALICE._private.sign(f"{head}.{body}".encode())
    refused(Envelope(PAYLOAD, (f"{head}.{body}.{b64(signed)}",)))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_flipped_bit_anywhere_in_the_file_goes_unnoticed(data):
    raw = bytearray(sign(Kind.RECEIPT, PAYLOAD, ALICE).to_bytes())
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(SluicegateError) as caught:
        verify(Kind.RECEIPT, Envelope.from_bytes(bytes(raw)), [ALICE.public])
    assert caught.value.reason in (Reason.SIGNATURE_INVALID, Reason.KEY_UNTRUSTED)


def test_stray_bits_at_the_end_of_a_signature_are_refused():
    """64 bytes leave four unused bits in the last letter: sixteen spellings, one of them ours."""
    token = sign(Kind.RECEIPT, PAYLOAD, ALICE).signatures[0]
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = letters.index(token[-1])
    same_bytes = [letters[(last & 0b110000) | stray] for stray in range(16)]
    accepted = []
    for letter in same_bytes:
        try:
            verify(Kind.RECEIPT, Envelope(PAYLOAD, (token[:-1] + letter,)), [ALICE.public])
            accepted.append(letter)
        except SluicegateError:
            pass
    assert accepted == [token[-1]]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b'{"payload": {}, "signatures": [], "more": 1}',
        b'{"payload": [], "signatures": []}',
        b'{"payload": {}, "signatures": [1]}',
        b'{"payload": {}, "signatures": "x"}',
        b'{"payload": {"a": 1, "a": 2}, "signatures": []}',
        b'{"payload": {}, "payload": {}, "signatures": []}',
        b'{"payload": {"a": {"b": 1, "b": 1}}, "signatures": []}',
        b'{"payload": {"a": NaN}, "signatures": []}',
        b'{"payload": {"a": Infinity}, "signatures": []}',
        b'{"payload": {"a": ' + b"9" * 5000 + b'}, "signatures": []}',
        b'{"payload": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b'}, "signatures": []}',
        b'{"payload": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b', "signatures": []}',
    ],
    ids=lambda raw: repr(raw[:50]),
)
def test_what_is_no_envelope_is_refused_without_breaking(raw):
    with pytest.raises(SluicegateError) as caught:
        Envelope.from_bytes(raw)
    assert caught.value.reason is Reason.SIGNATURE_INVALID


def test_an_oversized_file_is_refused_unread():
    with pytest.raises(SluicegateError) as caught:
        Envelope.from_bytes(b"{" * (MAX_BYTES + 1))
    assert caught.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    "text",
    ["1e400", "9007199254740993", '"\\ud800"', "[" * 900 + "]" * 900],
    ids=["infinite", "beyond 2^53", "lone surrogate", "deep"],
)
def test_a_payload_without_canonical_form_was_never_signed(text):
    raw = f'{{"payload": {{"a": {text}}}, "signatures": ["x"]}}'.encode()
    with pytest.raises(SluicegateError) as caught:
        verify(Kind.RECEIPT, Envelope.from_bytes(raw), [ALICE.public])
    assert caught.value.reason is Reason.SIGNATURE_INVALID


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_garbage_never_raises_anything_but_our_own_error(raw):
    with pytest.raises(SluicegateError):
        verify(Kind.RECEIPT, Envelope.from_bytes(raw), [ALICE.public])


@pytest.mark.parametrize(
    "x",
    [
        "",
        "AAAA",
        ALICE.public.x + "=",
        ALICE.public.x[:-1],
        "é" * 43,
        "!" * 43,
        ALICE.public.x[:-1] + "B",
        ALICE.public.x + "A",
    ],
)
def test_a_public_key_has_one_spelling(x):
    with pytest.raises(SluicegateError) as caught:
        PublicKey(x=x)
    assert caught.value.reason is Reason.KEY_UNTRUSTED


def test_the_thumbprint_is_that_of_rfc_8037():
    example = PublicKey(x="11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")  # RFC 8037, appendix A.3
    assert example.kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_signing_key_shows_itself_to_nobody():
    secret = ALICE.unsafe_private_jwk()["d"]
    raw = base64.urlsafe_b64decode(secret + "=")
    for text in (repr(ALICE), str(ALICE), f"{ALICE!r:>80}", repr([ALICE]), repr(sign(Kind.GRANT, {"a": 1}, ALICE))):
        assert secret not in text
        assert raw.hex() not in text
    for escape in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            escape(ALICE)


@pytest.mark.parametrize(
    "jwk",
    [
        {},
        {"kty": "OKP"},
        {"kty": "OKP", "crv": "Ed25519", "d": "c2hvcnQtc2VjcmV0"},
        {"kty": "EC", "crv": "Ed25519", "d": "A"},
    ],
)
def test_a_file_that_is_no_private_key_is_refused_without_showing_it(jwk):
    with pytest.raises(SluicegateError) as caught:
        SigningKey.from_jwk(jwk)
    assert caught.value.reason is Reason.KEY_UNTRUSTED
    assert "c2hvcnQ" not in str(caught.value)


def test_a_private_jwk_reads_back():
    assert SigningKey.from_jwk(ALICE.unsafe_private_jwk()).public == ALICE.public
