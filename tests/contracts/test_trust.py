"""Trust files, key statements, revocations: who may sign what, and when."""

from __future__ import annotations

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.envelope import Envelope, Kind, PublicKey
from contracts.errors import Reason, SluicegateError
from contracts.instants import rfc3339
from contracts.trust import (
    Keys,
    KeyStatement,
    PartyKind,
    TrustedParty,
    Use,
    certified,
    dump_trust,
    load_trust,
    read,
)
from tests.papers import ANALYST, COMPANY, DAY, DPO, GATEWAY, NOW, PROVIDER, STEWARD, Cast, key

CAST = Cast()
TRUST = CAST.trust


def subjects(keys) -> set[str]:
    return {item.subject for item in keys}


def ask(party=PROVIDER, use=Use.APPROVER, at=NOW, statements=None, revocations=(), as_signed_at=False, latest=None):
    return certified(
        TRUST,
        party,
        use,
        rfc3339(at),
        CAST.statements if statements is None else statements,
        revocations,
        as_signed_at=as_signed_at,
        latest=None if latest is None else rfc3339(latest),
    )


def refused(reason: Reason, call, *args, **kwargs) -> SluicegateError:
    with pytest.raises(SluicegateError) as caught:
        call(*args, **kwargs)
    assert caught.value.reason is reason
    return caught.value


# --- key statements


def test_a_key_counts_for_its_party_and_use_only():
    assert subjects(ask()) == {STEWARD, DPO}
    assert subjects(ask(use=Use.GATEWAY)) == {GATEWAY}
    assert subjects(ask(COMPANY, Use.REQUESTER)) == {ANALYST}
    assert ask(use=Use.REQUESTER) == ()
    assert ask(COMPANY) == ()


@pytest.mark.parametrize(
    ("at", "valid"),
    [(NOW - 1, False), (NOW, True), (NOW + DAY - 1, True), (NOW + DAY, False), (NOW + 10 * DAY, False)],
)
def test_a_key_counts_from_its_begin_until_before_its_end(at, valid):
    statement = CAST.statement(PROVIDER, STEWARD, Use.APPROVER, begin=NOW, end=NOW + DAY)
    for as_signed_at in (False, True):
        assert bool(ask(at=at, statements=[statement], as_signed_at=as_signed_at)) == valid


def test_a_party_that_the_trust_file_does_not_name_is_refused():
    error = refused(Reason.KEY_UNTRUSTED, ask, "water-board")
    assert "water-board" in error.message


def test_a_statement_that_the_root_did_not_sign_is_refused():
    own = CAST.sign(Kind.KEY, CAST.statements[0].payload, STEWARD)  # certified by itself
    foreign = CAST.sign(Kind.KEY, CAST.statements[0].payload, f"root:{COMPANY}")
    for forged in (own, foreign):
        refused(Reason.KEY_UNTRUSTED, ask, statements=[*CAST.statements, forged])


def test_a_changed_statement_is_refused():
    good = CAST.statements[0]
    for changed in ({"use": "gateway"}, {"notAfter": "2099-01-01T00:00:00Z"}, {"subject": "mallory@health.example"}):
        forged = Envelope({**good.payload, **changed}, good.signatures)
        refused(Reason.SIGNATURE_INVALID, ask, statements=[forged])


def test_a_statement_is_no_revocation_and_the_reverse():
    revocation = CAST.revocation(PROVIDER, STEWARD, NOW)
    refused(Reason.SIGNATURE_INVALID, ask, statements=[revocation])
    refused(Reason.SIGNATURE_INVALID, ask, revocations=[CAST.statements[0]])
    # Signed as the right kind, with the other's content: refused for its form.
    bent = CAST.sign(Kind.KEY, revocation.payload, f"root:{PROVIDER}")
    refused(Reason.SIGNATURE_INVALID, ask, statements=[bent])


@pytest.mark.parametrize(
    "changed", [{"use": "admin"}, {"more": 1}, {"key": {"kty": "EC"}}, {"subject": None}, {"notBefore": ...}]
)
def test_a_statement_of_another_form_is_refused_although_signed(changed):
    payload = {name: value for name, value in {**CAST.statements[0].payload, **changed}.items() if value is not ...}
    refused(Reason.SIGNATURE_INVALID, ask, statements=[CAST.sign(Kind.KEY, payload, f"root:{PROVIDER}")])


def test_other_parties_papers_are_nobodys_business():
    nonsense = CAST.sign(Kind.KEY, {**CAST.statements[0].payload, "party": "water-board"}, "mallory")
    assert subjects(ask(statements=[*CAST.statements, nonsense])) == {STEWARD, DPO}


# --- revocations


@pytest.mark.parametrize(
    ("revoked", "as_signed_at", "latest", "counts"),
    [
        # `at` is proven: only what was revoked by then is out.
        (NOW - 1, True, None, False),
        (NOW, True, None, False),
        (NOW + 1, True, None, True),
        # `at` is only claimed: whoever has the key can write any date.
        (NOW - 1, False, None, False),
        (NOW + 1, False, None, False),
        (NOW + 100 * DAY, False, None, False),
        # ... unless the signature provably existed before.
        (NOW + DAY, False, NOW + DAY - 1, True),
        (NOW + DAY, False, NOW + DAY, False),
        (NOW + DAY, False, NOW + 2 * DAY, False),
    ],
)
def test_revocation_before_and_after_the_signature(revoked, as_signed_at, latest, counts):
    revocation = CAST.revocation(PROVIDER, STEWARD, revoked)
    found = ask(revocations=[revocation], as_signed_at=as_signed_at, latest=latest)
    assert (STEWARD in subjects(found)) == counts
    assert DPO in subjects(found)


def test_of_several_revocations_the_earliest_counts():
    both = [CAST.revocation(PROVIDER, STEWARD, NOW + DAY), CAST.revocation(PROVIDER, STEWARD, NOW - DAY)]
    for order in (both, both[::-1]):
        assert subjects(ask(revocations=order, as_signed_at=True)) == {DPO}


def test_only_the_partys_own_root_revokes():
    forged = CAST.sign(Kind.REVOCATION, CAST.revocation(PROVIDER, STEWARD, NOW).payload, f"root:{COMPANY}")
    refused(Reason.KEY_UNTRUSTED, ask, revocations=[forged])
    # A company that revokes somebody else's key in its own name changes nothing.
    assert subjects(ask(revocations=[CAST.revocation(COMPANY, STEWARD, NOW - DAY)])) == {STEWARD, DPO}


def test_a_tampered_revocation_is_refused_not_overlooked():
    good = CAST.revocation(PROVIDER, STEWARD, NOW - DAY)
    forged = Envelope({**good.payload, "at": rfc3339(NOW + 9 * DAY)}, good.signatures)
    refused(Reason.SIGNATURE_INVALID, ask, revocations=[forged])


@settings(max_examples=60, deadline=None)
@given(st.integers(-3, 3), st.integers(-3, 3), st.integers(-3, 3))
def test_more_trust_is_never_had_from_less_proof(at, revoked, latest):
    """What counts with an unproven date counts with a proven one; and a later proof allows no more."""
    revocations = [CAST.revocation(PROVIDER, STEWARD, NOW + revoked * DAY)]
    claimed = subjects(ask(at=NOW + at * DAY, revocations=revocations))
    by_then = subjects(ask(at=NOW + at * DAY, revocations=revocations, latest=NOW + max(at, latest) * DAY))
    proven = subjects(ask(at=NOW + at * DAY, revocations=revocations, as_signed_at=True))
    assert claimed <= by_then <= proven


# --- signers


def test_signers_names_the_person_and_says_why_not():
    keys = Keys(TRUST, CAST.statements, (CAST.revocation(PROVIDER, STEWARD, NOW - DAY),))
    signed = CAST.sign(Kind.APPROVAL, {"a": 1}, DPO)
    assert subjects(keys.signers(Kind.APPROVAL, signed, [(PROVIDER, Use.APPROVER)], NOW)) == {DPO}
    by_revoked = CAST.sign(Kind.APPROVAL, {"a": 1}, STEWARD)
    error = refused(Reason.KEY_UNTRUSTED, keys.signers, Kind.APPROVAL, by_revoked, [(PROVIDER, Use.APPROVER)], NOW)
    assert STEWARD in error.message
    assert f"revoked at {rfc3339(NOW - DAY)}" in error.message
    by_gateway = CAST.sign(Kind.APPROVAL, {"a": 1}, GATEWAY)
    error = refused(Reason.KEY_UNTRUSTED, keys.signers, Kind.APPROVAL, by_gateway, [(PROVIDER, Use.APPROVER)], NOW)
    assert f"gateway key of {GATEWAY}" in error.message
    by_stranger = CAST.sign(Kind.APPROVAL, {"a": 1}, "mallory")
    error = refused(Reason.KEY_UNTRUSTED, keys.signers, Kind.APPROVAL, by_stranger, [(PROVIDER, Use.APPROVER)], NOW)
    assert "no key statement here names it" in error.message


def test_a_paper_without_a_date_may_be_signed_while_it_waited():
    late = CAST.statement(PROVIDER, "deputy@health.example", Use.APPROVER, begin=NOW + DAY, end=NOW + 2 * DAY)
    keys = Keys(TRUST, (late,))
    assert keys.certified(PROVIDER, Use.APPROVER, NOW) == ()
    assert keys.certified(PROVIDER, Use.APPROVER, NOW, until=NOW + DAY - 1) == ()
    assert subjects(keys.certified(PROVIDER, Use.APPROVER, NOW, until=NOW + 10 * DAY)) == {"deputy@health.example"}


def test_read_is_strict():
    good = CAST.statements[0]
    assert read(KeyStatement, good).subject == STEWARD
    error = refused(
        Reason.RECEIPT_INVALID, read, KeyStatement, Envelope({**good.payload, "use": 3}, ()), Reason.RECEIPT_INVALID
    )
    assert "$.use" in error.message


# --- trust files


def test_a_trust_file_reads_back():
    assert load_trust(dump_trust(TRUST)) == TRUST


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)
        | st.sampled_from(["no", "on", "1e3", "0x1f", "null", "y", "12"]),
        st.tuples(st.sampled_from(PartyKind), st.binary(min_size=32, max_size=32)),
        min_size=1,
        max_size=4,
        # two parties with one key are refused, rightly
    ).filter(lambda parties: len({seed for _, seed in parties.values()}) == len(parties))
)
def test_any_trust_file_reads_back_whatever_yaml_thinks_of_its_words(parties):
    trust = msgspec.structs.replace(
        TRUST,
        parties={
            name: TrustedParty(kind=kind, root=PublicKey(x=key(seed.hex()).public.x))
            for name, (kind, seed) in parties.items()
        },
    )
    assert load_trust(dump_trust(trust)) == trust


def test_the_dump_is_for_people_too():
    text = dump_trust(TRUST).decode()
    assert f"  {PROVIDER}:\n    kind: department\n    root:\n" in text
    assert yaml.safe_load(text)["version"] == 1


def changed(**parts) -> bytes:
    value = {**msgspec.to_builtins(TRUST), **parts}
    return yaml.safe_dump({name: part for name, part in value.items() if part is not ...}).encode()


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        (b"", ""),
        (b"- 1", ""),
        (b"version: [", ""),
        (b"version: 1\nversion: 1\n", "version"),
        (changed(version=2), "version"),
        (changed(parties={}), "parties"),
        (changed(parties={"Health Bureau": {"kind": "department", "root": {"x": key("a").public.x}}}), "Health Bureau"),
        (changed(parties={"a": {"kind": "king", "root": {"x": key("a").public.x}}}), "kind"),
        (changed(parties={"a": {"kind": "company", "root": {"x": "AAAA"}}}), "Ed25519"),
        (changed(grantKey=...), "grantKey"),
        (changed(grantKey=msgspec.to_builtins(TRUST.checkpoint_key)), "grantKey"),
        (changed(checkpointKey=msgspec.to_builtins(TRUST.parties[PROVIDER].root)), "checkpointKey"),
        (changed(standards=[]), "standards"),
        (changed(policies=[]), "policies"),
        (changed(policies=["sha256:12"]), "policies.0"),
        (changed(policies=["sha256:" + "A" * 64]), "policies.0"),
        (changed(surprise=True), "surprise"),
    ],
    ids=lambda value: value[-30:] if isinstance(value, bytes) else value,
)
def test_a_trust_file_that_cannot_be_trusted_is_refused(raw, names):
    error = refused(Reason.CONFIG_INVALID, load_trust, raw)
    assert names in str(error)


def test_all_that_is_wrong_is_said_at_once():
    error = refused(Reason.CONFIG_INVALID, load_trust, changed(version=3, standards=[], policies=["x"]))
    assert [violation.path for violation in error.violations] == ["version", "standards", "policies.0"]


def test_a_private_key_in_a_trust_file_is_refused_and_not_shown():
    secret = key("a").unsafe_private_jwk()
    error = refused(Reason.CONFIG_INVALID, load_trust, changed(parties={"a": {"kind": "company", "root": secret}}))
    assert secret["d"] not in str(error)
