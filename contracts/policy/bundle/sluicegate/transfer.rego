# METADATA
# title: May this agreement be served now
# description: |
#   Asked twice: by the exchange before it grants, with the plan as the contract states it, and by the
#   gateway before it serves, with the plan compiled against the data.
package sluicegate.transfer

import data.sluicegate.duties
import data.sluicegate.limits
import data.sluicegate.offer
import data.sluicegate.shape

granted := {
	"decision": input.decision,
	"bundle": data.sluicegate.bundle.digest,
	"allow": true,
	"reasons": [],
	"obligations": duties.owed,
} if {
	whole
	failing == set()
	offer.failing == set()
}

whole if {
	input.action == "transfer"
	count(input) == 7
	shape.asker
	shape.contract
	shape.purpose
	shape.agreement
}

failing contains "AGREEMENT_EXPIRED" if not lasting

failing contains "AGREEMENT_MISMATCH" if not matching

failing contains "AGREEMENT_NOT_ACTIVE" if not active

failing contains "AGREEMENT_NOT_YET_VALID" if not begun

failing contains "APPROVALS_TOO_FEW" if not approved

failing contains "CONSUMER_NOT_NAMED" if not named

failing contains "FIELD_NOT_AGREED" if not agreed

failing contains "FIELD_NOT_SENT" if not delivered

failing contains "NOT_SHARED" if not offer.shared

failing contains "PARTY_NOT_CONSUMER" if not consuming

failing contains "ROLE_MISSING" if not entitled

lasting if input.now < input.agreement.not_after

begun if input.agreement.not_before <= input.now

active if input.agreement.state == "ACTIVE"

matching if {
	shape.agreed == shape.published
	input.agreement.purpose == input.purpose.id
}

approved if count({approval | some approval in input.agreement.approvals}) >= approvals_needed

approvals_needed := 0 if input.contract.sharing.class == "unconditional"

approvals_needed := offer.approvals_needed if not input.contract.sharing.class == "unconditional"

named if offer.named(input.agreement.consumer)

agreed if object.remove(offer.sent, input.agreement.fields) == {}

delivered if object.remove(input.agreement.fields, offer.sent) == {}

consuming if input.subject.party == input.agreement.consumer

entitled if {
	"requester" in input.subject.roles
	limits.consumers[input.subject.kind]
}
