"""What a client signs: the right paper with the right key, and nothing that does not follow from signed papers."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from connectors import tls
from contracts.agreement import Agreement, AgreementBundle, verify_bundle
from contracts.agreement import Request as RequestPaper
from contracts.envelope import Envelope, Kind, sign, verify
from contracts.errors import Reason, SluicegateError
from contracts.trust import dump_trust
from exchange import keyfiles, signing, views
from exchange.config import Profile
from tests import papers as made
from tests.halls import refused
from tests.papers import ANALYST, COMPANY, GATEWAY, NOW, PROVIDER, STEWARD, key, make


@pytest.fixture
def papers(monkeypatch: pytest.MonkeyPatch) -> made.Papers:
    monkeypatch.setattr(signing.time, "time", lambda: NOW + 60)
    return make()


@pytest.fixture
def profiles(papers: made.Papers, tmp_path: Path) -> dict[str, Profile]:
    """The company's analyst and the department's steward, with their keys in files."""
    (tmp_path / "trust.yaml").write_bytes(dump_trust(papers.cast.trust))
    for name in (STEWARD, ANALYST, f"holder:{COMPANY}"):
        keyfiles.write_key(tmp_path / "keys" / f"{name}.jwk", key(name))

    def profile(party: str, subject: str, **more: Path) -> Profile:
        return Profile(
            party=party,
            subject=subject,
            endpoint="localhost:1",
            trust=tmp_path / "trust.yaml",
            signing_key=tmp_path / "keys" / f"{subject}.jwk",
            **more,
        )

    return {
        "analyst": profile(COMPANY, ANALYST, holder_key=tmp_path / "keys" / f"holder:{COMPANY}.jwk"),
        "steward": profile(PROVIDER, STEWARD),
    }


def unsigned(bundle: AgreementBundle) -> AgreementBundle:
    return msgspec.structs.replace(bundle, agreement=Envelope(bundle.agreement.payload, ()))


def shown(bundle: AgreementBundle) -> views.Agreement:
    return views.Agreement(name=bundle.agreement.payload["id"], statement=bundle.agreement)


def test_an_agreement_that_follows_is_signed_by_either_side(papers: made.Papers, profiles: dict[str, Profile]) -> None:
    bundle = unsigned(papers.bundle)
    for name, who in (("analyst", ANALYST), ("steward", STEWARD)):
        signed = signing.agreement(profiles[name], shown(bundle), bundle)
        verify(Kind.AGREEMENT, signed, [key(who).public])
        assert signed.payload == bundle.agreement.payload


CHANGES = {
    "purpose": "outbreak-monitoring",
    "fields": ("hospital_code",),
    "holder": key("somebody else").public,
    "gateway": "another-gateway",
    "consumer": "another-company",
    "not_after": "2036-01-01T00:00:00Z",
    "terms_digest": f"sha256:{'0' * 64}",
    "request_digest": f"sha256:{'0' * 64}",
    "approvals": (),
    "policy_digest": f"sha256:{'0' * 64}",
    "standard_digest": f"sha256:{'0' * 64}",
}


@pytest.mark.parametrize("name", [name for name in CHANGES if name != "gateway"])
@pytest.mark.parametrize("who", ["analyst", "steward"])
def test_an_agreement_that_does_not_follow_is_not_signed(
    papers: made.Papers, profiles: dict[str, Profile], name: str, who: str
) -> None:
    """The exchange drafts: each field that it could change in its own favour."""
    paper = msgspec.convert(papers.bundle.agreement.payload, Agreement)
    changed = replace(paper, **{name: CHANGES[name]})
    bundle = msgspec.structs.replace(papers.bundle, agreement=Envelope(msgspec.to_builtins(changed), ()))
    with pytest.raises(SluicegateError) as caught:
        signing.agreement(profiles[who], shown(bundle), bundle)
    assert caught.value.reason is not Reason.INTERNAL


def test_other_papers_than_those_of_the_agreement(papers: made.Papers, profiles: dict[str, Profile]) -> None:
    bundle = unsigned(papers.bundle)
    other = views.Agreement(name="agreements/a-2222222222", statement=bundle.agreement)
    with refused(Reason.SIGNATURE_INVALID):
        signing.agreement(profiles["analyst"], other, bundle)
    changed = Envelope({**bundle.agreement.payload, "purpose": "x"}, ())
    with refused(Reason.SIGNATURE_INVALID):
        signing.agreement(profiles["analyst"], replace(shown(bundle), statement=changed), bundle)
    with refused(Reason.SIGNATURE_INVALID):
        signing.agreement(profiles["analyst"], replace(shown(bundle), statement=Envelope({}, ())), bundle)
    with refused(Reason.STATE_WRONG):
        signing.agreement(profiles["analyst"], replace(shown(bundle), statement=None), bundle)


def test_nothing_is_signed_without_a_trust_file(papers: made.Papers, profiles: dict[str, Profile]) -> None:
    bundle = unsigned(papers.bundle)
    for trust in (None, Path("/nowhere/trust.yaml")):
        with refused(Reason.TRUST_MISSING):
            signing.agreement(replace(profiles["analyst"], trust=trust), shown(bundle), bundle)


def test_a_request_names_its_requester_and_the_holder_key(profiles: dict[str, Profile]) -> None:
    dataset = views.Dataset(
        name=f"parties/{PROVIDER}/datasets/hospital-visits",
        contract=views.Contract(document=msgspec.json.encode(made.document()).decode()),
    )

    def ask(**changes: object) -> RequestPaper:
        wanted = {"purpose": "transport-planning", "fields": (), "duration": "P90D", "reason": "buses", **changes}
        signed = signing.request(profiles["analyst"], dataset, **wanted)  # type: ignore[arg-type]
        verify(Kind.REQUEST, signed, [key(ANALYST).public])
        return msgspec.convert(signed.payload, RequestPaper)

    paper = ask()
    assert (paper.consumer, paper.requester, paper.provider) == (COMPANY, ANALYST, PROVIDER)
    assert paper.holder == key(f"holder:{COMPANY}").public
    assert paper.fields, "none named asks for all that the purpose offers"
    assert ask(fields=("hospital_code",)).fields == ("hospital_code",)
    assert ask(purpose="unknown").fields == ()
    assert ask().id != paper.id
    with refused(Reason.NOT_FOUND):
        signing.request(
            profiles["analyst"], replace(dataset, contract=None), purpose="x", fields=(), duration="P1D", reason="r"
        )


def test_who_has_two_keys_signs_with_the_one_for_it(profiles: dict[str, Profile], tmp_path: Path) -> None:
    keyfiles.write_key(tmp_path / "keys" / "requester.jwk", key("requester"))
    both = replace(profiles["analyst"], requester_key=tmp_path / "keys" / "requester.jwk")
    dataset = views.Dataset(
        name=f"parties/{PROVIDER}/datasets/hospital-visits",
        contract=views.Contract(document=msgspec.json.encode(made.document()).decode()),
    )
    asked = signing.request(both, dataset, purpose="transport-planning", fields=(), duration="P1D", reason="buses")
    verify(Kind.REQUEST, asked, [key("requester").public])
    found = views.Request(name=asked.payload["id"], statement=asked)
    approved = signing.approval(both, signing.approval_payload(both, found))
    verify(Kind.APPROVAL, approved, [key(ANALYST).public])
    assert approved.payload["requestDigest"] == asked.digest
    ordered = signing.suspension(both, "agreements/a-2222222222", reason="r", until=None)
    verify(Kind.REVOCATION, ordered, [key(ANALYST).public])


def test_a_missing_key_says_what_to_do(profiles: dict[str, Profile]) -> None:
    bare = replace(profiles["steward"], signing_key=None)
    with pytest.raises(SluicegateError) as caught:
        signing.suspension(bare, "agreements/a-2222222222", reason="r", until=None)
    assert caught.value.reason is Reason.CONFIG_INVALID
    assert "sluicegate key new" in caught.value.message


def test_a_ticket_is_the_holders_proof_over_the_grant(papers: made.Papers, profiles: dict[str, Profile]) -> None:
    agreed = verify_bundle(papers.bundle, papers.trust, at=NOW + 60)
    granted = views.Transfer(name=papers.grant.payload["transfer"], grant=papers.grant)
    plain = replace(profiles["analyst"], unsafe_plaintext=True)
    ticket = Envelope.from_bytes(signing.ticket(plain, granted, agreed))
    verify(Kind.PROOF, ticket, [key(f"holder:{COMPANY}").public])
    with refused(Reason.STATE_WRONG):
        signing.ticket(plain, replace(granted, grant=None), agreed)
    with refused(Reason.CONFIG_INVALID):
        signing.ticket(replace(plain, holder_key=None), granted, agreed)


def test_no_ticket_is_shown_to_a_gateway_that_its_department_did_not_name(
    papers: made.Papers, profiles: dict[str, Profile]
) -> None:
    """The exchange tells where the gateway is: it could name a place of its own."""
    agreed = verify_bundle(papers.bundle, papers.trust, at=NOW + 60)
    elsewhere, _ = tls.self_signed(now=NOW)
    granted = views.Transfer(
        name=papers.grant.payload["transfer"],
        grant=papers.grant,
        gateway_address="grpc+tls://elsewhere.example:7460",
        gateway_ca_certificate=elsewhere.decode(),
    )
    for profile in (profiles["analyst"], replace(profiles["analyst"], unsafe_plaintext=True)):
        with refused(Reason.KEY_UNTRUSTED):
            signing.ticket(profile, granted, agreed)
    with refused(Reason.KEY_UNTRUSTED):
        signing.ticket(profiles["analyst"], replace(granted, gateway_ca_certificate=""), agreed)


def test_a_receipt_is_acknowledged_only_for_what_it_attests(papers: made.Papers, profiles: dict[str, Profile]) -> None:
    receipt = papers.receipt
    found = views.Transfer(name=receipt.payload["transfer"], receipt=receipt)
    attested = receipt.payload["contentDigest"]
    signed = signing.acknowledgement(profiles["analyst"], found, attested)
    verify(Kind.ACKNOWLEDGEMENT, signed, [key(ANALYST).public])
    assert (signed.payload["receiptDigest"], signed.payload["contentDigest"]) == (receipt.digest, attested)
    with refused(Reason.DIGEST_MISMATCH):
        signing.acknowledgement(profiles["analyst"], found, f"sha256:{'0' * 64}")
    with refused(Reason.STATE_WRONG):
        signing.acknowledgement(profiles["analyst"], replace(found, receipt=None), attested)
    broken = sign(Kind.RECEIPT, {"not": "a receipt"}, key(GATEWAY))
    with refused(Reason.SIGNATURE_INVALID):
        signing.acknowledgement(profiles["analyst"], replace(found, receipt=broken), attested)
