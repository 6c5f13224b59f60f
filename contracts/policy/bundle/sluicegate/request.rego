# METADATA
# title: May this be asked for
# description: By a requester of the consumer, in the contract's terms, for what the purpose offers.
package sluicegate.request

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
	input.action == "request"
	count(input) == 7
	count(input.request) == 6
	shape.asker
	shape.contract
	shape.purpose
	asked
}

# What a request says when it is made.
asked if {
	request := input.request
	concat("", [request.consumer, request.requester, request.terms_digest, request.reason])
	is_number(request.duration_seconds)
	shape.names(request.fields)
}

failing contains "PARTY_KIND_WRONG" if not consuming

failing contains "PARTY_NOT_CONSUMER" if not own

failing contains "REQUESTER_MISMATCH" if not personal

failing contains "ROLE_MISSING" if not entitled

failing contains code if some code in lapsed

# What holds when it is asked for must still hold when it is approved.
lapsed contains "CONSUMER_NOT_NAMED" if not named

lapsed contains "DURATION_TOO_LONG" if not short

lapsed contains "FIELD_NOT_OFFERED" if not offered

lapsed contains "NOT_SHARED" if not offer.shared

lapsed contains "PLAN_MISMATCH" if not planned

lapsed contains "REASON_MISSING" if not reasoned

lapsed contains "TERMS_CHANGED" if not current

consuming if limits.consumers[input.subject.kind]

own if input.subject.party == input.request.consumer

personal if input.subject.name == input.request.requester

entitled if "requester" in input.subject.roles

named if offer.named(input.request.consumer)

short if {
	input.request.duration_seconds >= 1
	input.request.duration_seconds <= input.purpose.retention_seconds
}

offered if object.remove(input.request.fields, input.purpose.fields) == {}

planned if {
	object.remove(input.request.fields, offer.sent) == {}
	object.remove(offer.sent, input.request.fields) == {}
}

reasoned if trim_space(input.request.reason) != ""

current if input.request.terms_digest == input.contract.terms_digest
