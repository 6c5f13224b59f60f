# METADATA
# title: Who offends in a transfer
# description: The names behind each check of `sluicegate.transfer` that fails.
package sluicegate.findings.transfer

import data.sluicegate.findings.request
import data.sluicegate.offer
import data.sluicegate.transfer

offenders["AGREEMENT_EXPIRED"] := {"not_after"}

offenders["AGREEMENT_MISMATCH"] := {"provider", "dataset", "purpose", "terms", "document"} - same

offenders["AGREEMENT_NOT_ACTIVE"] := {input.agreement.state}

offenders["AGREEMENT_NOT_YET_VALID"] := {"not_before"}

offenders["APPROVALS_TOO_FEW"] := {format_int(transfer.approvals_needed, 10)}

offenders["CONSUMER_NOT_NAMED"] := {input.agreement.consumer}

offenders["FIELD_NOT_AGREED"] := offer.names - object.keys(input.agreement.fields)

offenders["FIELD_NOT_SENT"] := object.keys(input.agreement.fields) - offer.names

offenders["NOT_SHARED"] := {request.ground}

offenders["PARTY_NOT_CONSUMER"] := {input.subject.party}

offenders["ROLE_MISSING"] := {"requester"}

same contains "provider" if input.agreement.provider == input.contract.provider

same contains "dataset" if input.agreement.dataset == input.contract.dataset

same contains "purpose" if input.agreement.purpose == input.purpose.id

same contains "terms" if input.agreement.terms_digest == input.contract.terms_digest

same contains "document" if input.agreement.document_digest == input.contract.document_digest
