# METADATA
# title: The one entry point
# description: |
#   `data.sluicegate.decision` answers every question that the exchange and the gateways ask. It is what
#   the action's own package grants: that is defined only once the input was proved to be whole and
#   every check was shown to hold. Otherwise it is a refusal. The answer repeats the decision id it was
#   asked under and the digest of the bundle, so that an answer to another question, or from another
#   policy, is told apart.
package sluicegate

import data.sluicegate.findings

decision := granted

decision := {
	"decision": asked,
	"bundle": data.sluicegate.bundle.digest,
	"allow": false,
	"reasons": reasons,
	"obligations": [],
} if {
	not granted
}

granted := data.sluicegate.publish.granted if input.action == "publish"

granted := data.sluicegate.request.granted if input.action == "request"

granted := data.sluicegate.approve.granted if input.action == "approve"

granted := data.sluicegate.transfer.granted if input.action == "transfer"

granted := data.sluicegate.ledger_read.granted if input.action == "ledger-read"

default asked := ""

asked := input.decision

# A broken input is reported as such: findings about it would only mislead.
reasons := findings.faults.found if count(findings.faults.found) > 0

reasons := findings.found if {
	count(findings.faults.found) == 0
	count(findings.found) > 0
}

reasons := [{"code": "INPUT_UNJUDGED", "message": "the policy could not judge this input, so it refuses", "field": ""}] if {
	count(findings.faults.found) == 0
	count(findings.found) == 0
}
