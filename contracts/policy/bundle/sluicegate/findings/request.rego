# METADATA
# title: Who offends in a request
# description: The names behind each check of `sluicegate.request` that fails.
package sluicegate.findings.request

offenders["CONSUMER_NOT_NAMED"] := {input.request.consumer}

offenders["DURATION_TOO_LONG"] := {input.purpose.retention}

offenders["FIELD_NOT_OFFERED"] := object.keys(input.request.fields) - object.keys(input.purpose.fields)

offenders["NOT_SHARED"] := {ground}

offenders["PARTY_KIND_WRONG"] := {input.subject.kind}

offenders["PARTY_NOT_CONSUMER"] := {input.subject.party}

offenders["PLAN_MISMATCH"] := {"set of fields"}

offenders["REASON_MISSING"] := {"reason"}

offenders["REQUESTER_MISMATCH"] := {input.subject.name}

offenders["ROLE_MISSING"] := {"requester"}

offenders["TERMS_CHANGED"] := {"terms"}

# On what ground the dataset is not shared.
default ground := "that the contract should name"

ground := input.contract.sharing.legal_basis if {
	input.contract.sharing.class == "not-shared"
	is_string(input.contract.sharing.legal_basis)
}
