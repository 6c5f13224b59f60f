package sluicegate.decision_test

import data.sluicegate.decision
import data.sluicegate.findings

own := {
	"action": "ledger-read",
	"decision": "d-1",
	"now": 5,
	"subject": {"party": "lab", "kind": "company", "name": "ana", "roles": ["requester"]},
	"entries": {"parties": ["lab"]},
}

codes := {reason.code | some reason in decision.reasons}

test_allowed_answer_repeats_question_and_bundle if {
	decision == {
		"decision": "d-1",
		"bundle": data.sluicegate.bundle.digest,
		"allow": true,
		"reasons": [],
		"obligations": [],
	} with input as own
}

test_refusal_repeats_question_and_bundle if {
	decision == {
		"decision": "d-1",
		"bundle": data.sluicegate.bundle.digest,
		"allow": false,
		"reasons": {{
			"code": "NOT_CONCERNED",
			"message": "entries of bank concern another party; only auditors of supervision and coordination see all",
			"field": "entries.parties",
		}},
		"obligations": [],
	} with input as object.union(own, {"entries": {"parties": ["bank"]}})
}

test_no_input_at_all if {
	decision.allow == false with input as {}
	codes == {"ACTION_UNKNOWN"} with input as {}
}

test_unknown_action if {
	decision.allow == false with input as object.union(own, {"action": "erase"})
	codes == {"ACTION_UNKNOWN"} with input as object.union(own, {"action": "erase"})
}

test_key_too_many if {
	codes == {"INPUT_UNKNOWN"} with input as object.union(own, {"more": 1})
	codes == {"INPUT_UNKNOWN"} with input as object.union(own, {"entries": {"parties": ["lab"], "more": 1}})
}

test_what_cannot_be_judged_is_refused if {
	codes == {"INPUT_UNJUDGED"} with input as own with data.sluicegate.ledger_read.failing as {}
	decision.allow == false with input as own with data.sluicegate.ledger_read.failing as {}
}

test_what_is_not_proved_whole_is_refused_though_no_table_objects if {
	codes == {"INPUT_UNJUDGED"} with input as own with data.sluicegate.shape.asker as false
	decision.allow == false with input as own with data.sluicegate.shape.asker as false
}

test_offence_without_a_message_still_refuses if {
	codes == {"NEW_CODE"} with input as own with data.sluicegate.ledger_read.failing as {"NEW_CODE"}
	decision.allow == false with input as own with data.sluicegate.ledger_read.failing as {"NEW_CODE"}
}

test_offence_without_an_offender_is_a_reason if {
	found := findings.found with input as own with data.sluicegate.ledger_read.failing as {"NOT_CONCERNED"}
	{reason.code | some reason in found} == {"NOT_CONCERNED"}
}

test_bundle_without_digest_gives_no_decision if {
	not decision with input as own with data.sluicegate.bundle as {}
}
