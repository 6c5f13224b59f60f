# METADATA
# title: Who offends in an approval
# description: The names behind each check of `sluicegate.approve` that fails.
package sluicegate.findings.approve

import data.sluicegate.findings.request

offenders := object.union(request.offenders, {
	"ALREADY_APPROVED": {input.subject.name},
	"APPROVER_NOT_NAMED": {input.subject.name},
	"PARTY_NOT_PROVIDER": {input.subject.party},
	"REQUEST_CLOSED": {input.request.state},
	"ROLE_MISSING": {"steward or dpo"},
	"SELF_APPROVAL": {input.subject.name},
})
