# METADATA
# title: May this contract be published
# description: |
#   By a steward or dpo of the department, signed by as many approvers as it takes. Each purpose in
#   turn takes the place of the one in question, and is judged as for any other action.
package sluicegate.publish

import data.sluicegate.offer
import data.sluicegate.shape

granted := {
	"decision": input.decision,
	"bundle": data.sluicegate.bundle.digest,
	"allow": true,
	"reasons": [],
	"obligations": [],
} if {
	whole
	failing == set()
	sound
}

whole if {
	input.action == "publish"
	count(input) == 6
	count(input.contract) == 9
	shape.asker
	shape.terms
	concat("", input.contract.signers)
	is_array(input.purposes)
	broken := [1 | some offered in input.purposes; not shape.purpose with input.purpose as offered]
	broken == []
}

sound if {
	unsound := [1 | some offered in input.purposes; not fit with input.purpose as offered]
	unsound == []
}

fit if offer.failing == set()

failing contains "APPROVERS_TOO_FEW" if not approvable

failing contains "FIELD_NOT_SENT" if not delivered

failing contains "LEGAL_BASIS_MISSING" if not grounded

failing contains "OBLIGATION_MISSING" if not owing

failing contains "PARTY_KIND_WRONG" if not departmental

failing contains "PARTY_NOT_PROVIDER" if not own

failing contains "PURPOSES_EMPTY" if not purposeful

failing contains "ROLE_MISSING" if not entitled

failing contains "SHARING_UNKNOWN" if not classed

failing contains "SIGNERS_TOO_FEW" if not signed

departmental if input.subject.kind == "department"

own if input.subject.party == input.contract.provider

entitled if {
	some role in ["steward", "dpo"]
	role in input.subject.roles
}

classed if input.contract.sharing.class in {"unconditional", "conditional", "not-shared"}

grounded if input.contract.sharing.class in {"unconditional", "conditional"}

grounded if {
	input.contract.sharing.class == "not-shared"
	trim_space(input.contract.sharing.legal_basis) != ""
}

purposeful if input.contract.sharing.class == "not-shared"

purposeful if input.purposes[0]

signed if count({signer | some signer in input.contract.signers}) >= signers_needed

# Under a standing offer the signatures below the contract stand for the approvals of every request.
signers_needed := 1 if not input.contract.sharing.class == "unconditional"

signers_needed := max(array.concat([1], needed)) if {
	input.contract.sharing.class == "unconditional"
	needed := [least | some offered in input.purposes; least := offer.approvals_needed with input.purpose as offered]
	count(needed) == count(input.purposes)
}

approvable if input.contract.sharing.class == "unconditional"

approvable if count(staffed) == count(input.purposes)

# Positions of the purposes that have approvers enough.
staffed contains at if {
	some at, offered in input.purposes
	needed := offer.approvals_needed with input.purpose as offered
	count({approver | some approver in offered.approvers}) >= needed
}

# What a purpose offers is what its plan sends.
delivered if count(kept) == count(input.purposes)

kept contains at if {
	some at, offered in input.purposes
	sent := offer.sent with input.purpose as offered
	object.remove(offered.fields, sent) == {}
}

owing if {
	obligations := input.contract.obligations
	trim_space(obligations.deletion_proof) != ""
	trim_space(obligations.breach_notice) != ""
	obligations.onward_sharing in {"prohibited", "permitted", "with-approval"}
	obligations.reidentification == "prohibited"
}
