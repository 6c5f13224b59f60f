# METADATA
# title: What the consumer owes in return
# description: Duties as `name:value`, out of the contract and the purpose, in the order of their names.
package sluicegate.duties

default owed := []

owed := [
	"acknowledgement:required",
	concat("", ["breachNotice:", obliged.breach_notice]),
	concat("", ["crossBorder:", offer.geography.cross_border]),
	concat("", ["deletionProof:", obliged.deletion_proof]),
	concat("", ["onwardSharing:", obliged.onward_sharing]),
	concat("", ["places:", concat(",", sort(offer.geography.allowed))]),
	concat("", ["reidentification:", obliged.reidentification]),
	concat("", ["retention:", offer.retention]),
] if {
	offer := input.purpose
	obliged := input.contract.obligations
}
