# METADATA
# title: Whether the parts of an input are whole
# description: |
#   Every part has exactly the keys of its table, each of its type. A null is allowed only where the
#   table says so; an absent key never is. The checks rely on this: after it no reference of theirs is
#   undefined and no comparison is between types (in Rego null < number < string).
#
#   Nothing is assumed, all of it is proved: `concat` is defined for lists of texts only, `sum` for
#   lists of numbers only, `object.union_n` for lists of objects only; and a part with as many keys as
#   were proved has no other. One call proves many values, because calls are what a decision costs.
#   What exactly is wrong with an input is found by the tables, in `sluicegate.findings.faults`, and
#   only once it is refused.
package sluicegate.shape

import data.sluicegate.offer
import data.sluicegate.shapes

asker if {
	shapes.actions[input.action].action # the tables that would explain a refusal
	subject := input.subject
	count(subject) == 4
	concat("", [input.decision, subject.party, subject.kind, subject.name])
	concat("", subject.roles)
	is_number(input.now)
}

contract if {
	count(input.contract) == 8
	terms
}

terms if {
	contract := input.contract
	obligations := contract.obligations
	concat("", published)
	concat("", [
		contract.sharing.class, contract.version,
		obligations.onward_sharing, obligations.reidentification, obligations.deletion_proof, obligations.breach_notice,
	])
	count(obligations) == 4
	count(contract.sharing) == 2
	text_or_null(contract.sharing.legal_basis)
	negative := contract.negative
	count(negative) == 3
	concat("", negative.fields)
	concat("", negative.uses)
	is_array(negative.together)
	broken := [1 | some combination in negative.together; not concat("", combination)]
	broken == []
}

# Which contract it is, in the words of `agreed`.
published := [contract.provider, contract.dataset, contract.terms_digest, contract.document_digest] if {
	contract := input.contract
}

purpose if {
	purpose := input.purpose
	geography := purpose.geography
	plan := purpose.plan
	count(purpose) == 11
	count(geography) == 2
	count(plan) == 7
	concat("", [
		purpose.id, purpose.term, purpose.legal_basis, purpose.retention,
		geography.cross_border, plan.purpose, plan.terms_digest,
	])
	concat("", purpose.ancestors)
	concat("", purpose.consumers)
	concat("", purpose.approvers)
	concat("", geography.allowed)
	is_number(purpose.retention_seconds)
	is_boolean(plan.compiled)
	names(purpose.fields)
	groups
	bounds
	sample(plan.sample)
	small(plan.suppress_small)
}

# Tier, identifiability and treatment of a group are proved where `sluicegate.offer` looks them up.
groups if {
	groups := offer.plan.groups
	is_array(groups)
	justified := {true: "yes", false: "no"}
	broken := [1 | some group in groups; not whole_group(group, justified)]
	broken == []
	not null in offer.sent
}

whole_group(group, justified) if {
	count(group) == 5
	justified[group.justified]
}

bounds if offer.boundless

bounds if {
	not offer.noisy
	stated := offer.bounds
	count(stated) == 7
	concat("", [stated.entity, stated.sharing_model, stated.on_violation])
	is_number(stated.k)
	number_or_null(stated.max_suppression)
	names(stated.quasi_identifiers)
	names(stated.l)
}

bounds if {
	offer.noisy
	noise := offer.bounds
	count(noise) == 7
	concat("", [noise.entity])
	sum([
		noise.micro_epsilon, noise.pico_delta, noise.budget_micro_epsilon,
		noise.budget_pico_delta, noise.most_groups, noise.most_rows,
	])
}

sample(null)

sample(sample) if {
	count(sample) == 2
	concat("", [sample.entity])
	is_number(sample.rate)
}

small(null)

small(small) if {
	count(small) == 3
	sum([small.k, small.max_suppression])
	names(small.fields)
}

agreement if {
	agreement := input.agreement
	count(agreement) == 11
	concat("", agreed)
	concat("", [agreement.consumer, agreement.state, agreement.purpose])
	sum([agreement.not_before, agreement.not_after])
	concat("", agreement.approvals)
	names(agreement.fields)
}

# Which contract the agreement is about, in the words of `published`.
agreed := [agreement.provider, agreement.dataset, agreement.terms_digest, agreement.document_digest] if {
	agreement := input.agreement
}

text_or_null(null)

text_or_null(value) if is_string(value)

number_or_null(null)

number_or_null(value) if is_number(value)

# A set of names: the keys of an object. What stands behind them says nothing, but is not null.
names(set) if {
	is_object(set)
	not null in set
}
