# METADATA
# title: Whose ledger entries may be read
# description: A party's own; all of them by auditors of supervision and coordination. `*` asks for all.
package sluicegate.ledger_read

import data.sluicegate.shape

granted := {
	"decision": input.decision,
	"bundle": data.sluicegate.bundle.digest,
	"allow": true,
	"reasons": [],
	"obligations": [],
} if {
	whole
	failing == set()
}

whole if {
	input.action == "ledger-read"
	count(input) == 5
	shape.asker
	count(input.entries) == 1
	concat("", input.entries.parties)
}

failing contains "NOT_CONCERNED" if not concerned

failing contains "PARTY_KIND_WRONG" if not of_known_kind

failing contains "ROLE_MISSING" if not employed

employed if input.subject.roles[0]

of_known_kind if input.subject.kind in {"department", "company", "coordination", "supervision"}

concerned if {
	input.entries.parties[0]
	foreign == set()
}

concerned if {
	input.entries.parties[0]
	"auditor" in input.subject.roles
	input.subject.kind in {"coordination", "supervision"}
}

foreign contains party if {
	parties := input.entries.parties
	some party in parties
	not party == input.subject.party
}
