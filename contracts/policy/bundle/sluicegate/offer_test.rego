package sluicegate.offer_test

import data.sluicegate.masks
import data.sluicegate.offer

group(tier, identifiability, treatment, names) := {
	"tier": tier,
	"identifiability": identifiability,
	"treatment": treatment,
	"justified": false,
	"fields": {name: true | some name in names},
}

contract := {"terms_digest": "t", "negative": {"fields": ["name"], "together": [["id", "code"]], "uses": ["x:Ads"]}}

bounds := {
	"entity": "id",
	"quasi_identifiers": {"age": true},
	"k": 10,
	"l": {"code": 2},
	"sharing_model": "controlled",
	"on_violation": "refuse",
	"max_suppression": null,
}

study := {
	"id": "study",
	"term": "x:Research",
	"ancestors": ["x:Research"],
	"legal_basis": "x:Law",
	"consumers": ["lab"],
	"fields": {"age": true, "code": true},
	"retention": "P30D",
	"retention_seconds": 2592000,
	"geography": {"allowed": ["XX-CTY"], "cross_border": "prohibited"},
	"plan": {
		"purpose": "study",
		"terms_digest": "t",
		"groups": [group("semi-private", "quasi", "coarsened", ["age"]), group("highly-private", "sensitive", "coarsened", ["code"])],
		"bounds": bounds,
		"sample": null,
		"suppress_small": null,
	},
}

failing(purpose) := found if {
	found := offer.failing with input as {"contract": contract, "purpose": purpose}
}

with_groups(groups) := object.union(study, {
	"fields": {name: true | some member in groups; some name in object.keys(member.fields)},
	"plan": {"groups": groups},
})

needed(groups) := least if {
	least := offer.approvals_needed with input as {"purpose": {"plan": {"groups": groups}}}
}

test_sound_offer_has_no_offence if {
	failing(study) == set()
}

test_what_is_not_there_fails if {
	failing(object.remove(study, ["consumers"])) == {"CONSUMERS_EMPTY"}
	"PLAN_MISMATCH" in offer.failing with input as {"contract": {"negative": contract.negative}, "purpose": study}
	{"BOUNDS_MISSING", "FIELDS_EMPTY", "FIELD_UNCLASSIFIED", "K_TOO_LOW", "PLAN_MISMATCH"} - failing(object.remove(study, ["plan"])) == set()
}

test_forbidden_combination_needs_all_its_fields if {
	both := with_groups(array.concat(study.plan.groups, [group("highly-private", "direct", "pseudonym", ["id"])]))
	failing(both) == {"FIELDS_TOGETHER"}
}

test_negative_field_even_when_nothing_of_it_is_left if {
	named := with_groups(array.concat(study.plan.groups, [group("highly-private", "direct", "removed", ["name"])]))
	failing(named) == {"FIELD_NEGATIVE"}
}

test_forbidden_use if {
	failing(object.union(study, {"ancestors": ["x:Research", "x:Ads"]})) == {"PURPOSE_FORBIDDEN"}
}

test_indirect_remnant_of_a_semi_private_field_is_counted if {
	marked := with_groups(array.concat(study.plan.groups, [group("semi-private", "indirect", "coarsened", ["device"])]))
	failing(marked) == {"QUASI_UNDECLARED"}
}

test_what_the_table_names_and_nothing_meets_fails if {
	failing(study) == {"NEW_CODE"} with data.sluicegate.masks["semi-private"].quasi.coarsened as ["NEW_CODE"]
}

test_what_the_table_does_not_know_fails if {
	failing(study) == {"FIELD_UNCLASSIFIED"} with data.sluicegate.masks as object.remove(masks, ["semi-private"])
}

test_approvals_follow_the_highest_tier if {
	needed([]) == 0
	needed([group("open", "none", "kept", ["a"])]) == 0
	needed([group("open", "none", "kept", ["a"]), group("semi-private", "quasi", "coarsened", ["b"])]) == 1
	needed([group("highly-private", "direct", "pseudonym", ["a"])]) == 2
}

test_places if {
	every place in ["XX", "XX-C", "CN-11", "FR-ARA"] {
		offer.is_place(place)
	}
	every place in ["", "xx", "X", "XX-", "XX-ABCD", "XX CTY", " XX", "XXX"] {
		not offer.is_place(place)
	}
}

test_retention_is_a_number_within_its_range if {
	every seconds in [1, 5, 315360000] {
		failing(object.union(study, {"retention_seconds": seconds})) == set()
	}
	every seconds in [0, -1, 315360001, "5", null, [5]] {
		failing(object.union(study, {"retention_seconds": seconds})) == {"RETENTION_OUT_OF_RANGE"}
	}
}
