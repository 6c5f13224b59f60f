# METADATA
# title: Who offends in a publication
# description: The names behind each check of `sluicegate.publish` that fails.
package sluicegate.findings.publish

import data.sluicegate.offer
import data.sluicegate.publish

offenders["APPROVERS_TOO_FEW"] := understaffed

offenders["FIELD_NOT_SENT"] := unsent

offenders["LEGAL_BASIS_MISSING"] := {"contract.sharing.legal_basis"}

offenders["OBLIGATION_MISSING"] := {"deletion_proof", "breach_notice", "onward_sharing", "reidentification"} - owed

offenders["PARTY_KIND_WRONG"] := {input.subject.kind}

offenders["PARTY_NOT_PROVIDER"] := {input.subject.party}

offenders["PURPOSES_EMPTY"] := {"purposes"}

offenders["ROLE_MISSING"] := {"steward or dpo"}

offenders["SHARING_UNKNOWN"] := {input.contract.sharing.class}

offenders["SIGNERS_TOO_FEW"] := {format_int(publish.signers_needed, 10)}

understaffed contains offered.id if {
	some at, offered in input.purposes
	not publish.staffed[at]
}

unsent contains name if {
	some offered in input.purposes
	sent := offer.names with input.purpose as offered
	some name in (object.keys(offered.fields) - sent)
}

owed contains name if {
	some name in ["deletion_proof", "breach_notice"]
	trim_space(input.contract.obligations[name]) != ""
}

owed contains "onward_sharing" if input.contract.obligations.onward_sharing in {"prohibited", "permitted", "with-approval"}

owed contains "reidentification" if input.contract.obligations.reidentification == "prohibited"
