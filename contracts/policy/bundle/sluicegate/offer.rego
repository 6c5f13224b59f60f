# METADATA
# title: What one purpose would let leave
# description: |
#   Judges `input.purpose`, one purpose of a contract, together with the plan that masks its fields.
#   `failing` holds the code of every check that could not be shown to hold.
#
#   A plan comes as groups of fields that share their facts. What may be done with a field shows in the
#   facts of its group, so the table of masks is asked once for a group, and single names are looked at
#   only where sets of names are compared.
#
#   Rules bind a list before they go through it: an engine may otherwise compare the whole list with
#   false first, on every use.
package sluicegate.offer

import data.sluicegate.limits
import data.sluicegate.masks

failing contains "AGGREGATE_MISMATCH" if not of_one_kind

failing contains "BOUNDS_MISSING" if not bounded

failing contains "CONSUMERS_EMPTY" if not consumed

failing contains "CONTRIBUTION_UNBOUNDED" if not limited

failing contains "ENTITY_MISSING" if not counting_persons

failing contains "EPSILON_OUT_OF_RANGE" if not affordable

failing contains "FIELDS_EMPTY" if not sending

failing contains "FIELDS_TOGETHER" if some _ in together

failing contains "FIELD_NEGATIVE" if some _ in negative

failing contains "FIELD_NOT_OFFERED" if not offered

failing contains "FIELD_UNCLASSIFIED" if not classified

failing contains "GEOGRAPHY_CONTRADICTORY" if not within_borders

failing contains "GEOGRAPHY_MISSING" if not located

failing contains "GEOGRAPHY_UNKNOWN" if some _ in nowhere

failing contains "K_TOO_LOW" if not crowded

failing contains "LEGAL_BASIS_MISSING" if not grounded

failing contains "PLAN_MISMATCH" if not planned

failing contains "PURPOSE_FORBIDDEN" if some _ in forbidden

failing contains "PURPOSE_UNKNOWN" if not known_purpose

failing contains "RETENTION_OUT_OF_RANGE" if not short_lived

failing contains "SAMPLE_UNFIT" if not thinned

failing contains "SHARING_MODEL_UNKNOWN" if not modelled

failing contains "SMALL_UNFIT" if not cleared

failing contains "SUPPRESSION_CONTRADICTORY" if not suppressing

# The checks that the table names for a group: DIRECT_AGGREGATED, DIRECT_IDENTIFIABLE, DIRECT_KEPT, FIELD_PROHIBITED,
# KEEP_UNJUSTIFIED, QUASI_UNDECLARED, REVERSIBLE, SENSITIVE_UNBOUNDED. Most can be met by nothing.
failing contains code if {
	pairs := judged
	some pair in pairs
	codes := pair[0]
	group := pair[1]
	some code in codes
	not met(code, group)
}

# Each group, after the codes of the checks that the table names for it; none whose facts the table does not know.
judged := [[codes, group] |
	table := masks
	groups := plan.groups
	some group in groups
	codes := table[group.tier][group.identifiability][group.treatment]
]

failing contains "KEEP_UNJUSTIFIED" if {
	not classified
	some _ in exposed
}

met("KEEP_UNJUSTIFIED", group) if group.justified == true

# What can be turned back names the legal basis of doing so.
met("REVERSIBLE", group) if group.justified == true

# Quasi fields, and what a mask leaves of those that point at a person, can help to recognise one.
met("QUASI_UNDECLARED", group) if object.remove(group.fields, bounds.quasi_identifiers) == {}

met("QUASI_UNDECLARED", _) if boundless # which BOUNDS_MISSING is about

met("SENSITIVE_UNBOUNDED", group) if unlimited(group) == []

unlimited(group) := [name | some name in object.keys(group.fields); not is_limited(name)]

is_limited(name) if {
	is_number(bounds.l[name])
	bounds.l[name] >= limits.l_floor
}

plan := input.purpose.plan

bounds := input.purpose.plan.bounds

default boundless := false

boundless if is_null(bounds)

# The fields that leave, as the keys of an object, and as a set.
sent := object.union_n([group.fields | some group in plan.groups])

names := object.keys(sent)

# The purpose: what for, for whom, where, how long

known_purpose if input.purpose.term in input.purpose.ancestors

forbidden contains use if {
	uses := input.contract.negative.uses
	some use in uses
	use in input.purpose.ancestors
}

grounded if trim_space(input.purpose.legal_basis) != ""

consumed if input.purpose.consumers[0]

named(_) if "*" in input.purpose.consumers

named(party) if {
	party in input.purpose.consumers
	party != "*"
}

shared if input.contract.sharing.class in {"unconditional", "conditional"}

located if input.purpose.geography.allowed[0]

nowhere contains place if {
	places := input.purpose.geography.allowed
	some place in places
	not is_place(place)
}

is_place(place) if regex.match(`^[A-Z]{2}(-[A-Z0-9]{1,3})?$`, place)

# Places of several countries contradict a prohibition to cross borders.
within_borders if input.purpose.geography.cross_border == "permitted"

within_borders if count(countries) < 2

countries := {substring(place, 0, 2) | some place in input.purpose.geography.allowed}

short_lived if {
	lasting := input.purpose.retention_seconds
	lasting >= 1
	lasting <= limits.retention_max_seconds
}

# The fields: what is sent at all

planned if {
	plan.purpose == input.purpose.id
	plan.terms_digest == input.contract.terms_digest
}

sending if count(sent) > 0

offered if object.remove(sent, input.purpose.fields) == {}

negative contains name if {
	fields := input.contract.negative.fields
	some name in fields
	names[name]
}

together contains combination if {
	combinations := input.contract.negative.together
	some combination in combinations
	combination[0]
	absent := [name | some name in combination; not names[name]]
	absent == []
}

# Every group's facts are among those of the table, and no field stands in two groups.
classified if {
	sizes := [count(group.fields) | some group in plan.groups]
	count(sizes) == count(plan.groups)
	count(judged) == count(plan.groups)
	sum(sizes) == count(sent)
}

is_known(group) if masks[group.tier][group.identifiability][group.treatment]

# Kept without a justification in a group that the table does not know, so names no checks for.
exposed contains name if {
	groups := plan.groups
	some group in groups
	group.treatment == "kept"
	group.justified == false
	not group.tier == "open"
	not group.tier == "internal"
	not is_known(group)
	some name in object.keys(group.fields)
}

# The approvals that the highest tier among the fields sent needs.
approvals_needed := max(array.concat([0], each)) if {
	needed := limits.approvals
	each := [needed[group.tier] | some group in plan.groups]
}

# The bounds: none on data about no person, all of them on other data

bounded if bounds.entity

bounded if {
	boundless
	personal := [1 | some group in plan.groups; not group.identifiability == "none"]
	personal == []
}

counting_persons if boundless

counting_persons if bounds.entity != ""

modelled if boundless

modelled if noisy

modelled if limits.k_floor[bounds.sharing_model]

crowded if boundless

crowded if noisy

crowded if bounds.k >= least_k

# An unknown sharing model is held to the strictest floor.
least_k := object.get(limits.k_floor, bounds.sharing_model, limits.k_floor.public)

suppressing if boundless

suppressing if noisy

suppressing if {
	bounds.max_suppression == null
	bounds.on_violation in {"refuse", "propose"}
}

# What a proposal may suppress, where the contract limits that.
suppressing if {
	bounds.on_violation in {"suppress", "propose"}
	bounds.max_suppression >= 0
	bounds.max_suppression < 1
}

# The whole release: a sample of those that the bounds count, and no small classes where there are none

thinned if plan.sample == null

thinned if {
	plan.sample.rate > 0
	plan.sample.rate < 1
	plan.sample.entity != ""
	counted
}

counted if boundless

counted if {
	not noisy
	plan.sample.entity == bounds.entity
}

cleared if plan.suppress_small == null

cleared if {
	boundless
	plan.suppress_small.k >= 2
	plan.suppress_small.max_suppression > 0
	plan.suppress_small.max_suppression < 1
	count(plan.suppress_small.fields) > 0
	object.remove(plan.suppress_small.fields, sent) == {}
}

# Aggregates: noise and a budget stand in the place of the bounds on rows

default noisy := false

noisy if is_number(bounds.micro_epsilon)

# No row of an aggregate leaves, and of nothing else only totals do.
of_one_kind if {
	noisy
	count(aggregated) == count(plan.groups)
}

of_one_kind if {
	not noisy
	aggregated == []
}

aggregated := [1 | some group in plan.groups; is_aggregated(group)]

is_aggregated(group) if group.treatment == "aggregated"

limited if not noisy

limited if {
	bounds.most_groups >= 1
	bounds.most_rows >= 1
}

affordable if not noisy

affordable if {
	bounds.micro_epsilon >= 1
	bounds.micro_epsilon <= bounds.budget_micro_epsilon
	bounds.budget_micro_epsilon <= limits.micro_epsilon_max
	bounds.pico_delta >= 0
	bounds.pico_delta <= bounds.budget_pico_delta
	bounds.budget_pico_delta <= limits.pico_delta_max
}
