# METADATA
# title: May this person approve this request
# description: Only an approver whom the contract names, of the provider, once, and never the requester.
package sluicegate.approve

import data.sluicegate.duties
import data.sluicegate.offer
import data.sluicegate.request
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
	input.action == "approve"
	count(input) == 7
	count(input.request) == 8
	shape.asker
	shape.contract
	shape.purpose
	request.asked
	concat("", [input.request.state])
	concat("", input.request.approvals)
}

failing contains "ALREADY_APPROVED" if not first

failing contains "APPROVER_NOT_NAMED" if not named

failing contains "PARTY_NOT_PROVIDER" if not providing

failing contains "REQUEST_CLOSED" if not pending

failing contains "ROLE_MISSING" if not entitled

failing contains "SELF_APPROVAL" if not another

failing contains code if some code in request.lapsed

first if {
	earlier := [approver | some approver in input.request.approvals; approver == input.subject.name]
	earlier == []
}

named if input.subject.name in input.purpose.approvers

providing if input.subject.party == input.contract.provider

pending if input.request.state == "SUBMITTED"

entitled if {
	some role in ["steward", "dpo"]
	role in input.subject.roles
}

another if input.subject.name != input.request.requester
