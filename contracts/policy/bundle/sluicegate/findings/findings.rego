# METADATA
# title: Why a whole input is refused
# description: |
#   Worked out only once a decision is a refusal; nothing here can allow anything. One reason for each
#   offender of each check that fails, in the words of the message table. A check that fails without
#   an offender to name is a reason all the same.
package sluicegate.findings

import data.sluicegate.messages
import data.sluicegate.offer

found contains reason(code, name, "field", "") if {
	some code in failing
	some name in named(offenders, code)
}

found contains reason(offence[0], offence[1], "at", sprintf("purposes.%s.", [input.purpose.id])) if {
	input.action in {"request", "approve", "transfer"}
	some offence in offences
}

found contains reason(offence[0], offence[1], "at", sprintf("purposes.%s.", [offered.id])) if {
	input.action == "publish"
	some offered in input.purposes
	committed := offences with input.purpose as offered
	some offence in committed
}

offences contains [code, name] if {
	some code in offer.failing
	some name in named(data.sluicegate.findings.offer.offenders, code)
}

failing := data.sluicegate.publish.failing if input.action == "publish"

failing := data.sluicegate.request.failing if input.action == "request"

failing := data.sluicegate.approve.failing if input.action == "approve"

failing := data.sluicegate.transfer.failing if input.action == "transfer"

failing := data.sluicegate.ledger_read.failing if input.action == "ledger-read"

offenders := data.sluicegate.findings.publish.offenders if input.action == "publish"

offenders := data.sluicegate.findings.request.offenders if input.action == "request"

offenders := data.sluicegate.findings.approve.offenders if input.action == "approve"

offenders := data.sluicegate.findings.transfer.offenders if input.action == "transfer"

offenders := data.sluicegate.findings.ledger_read.offenders if input.action == "ledger-read"

default named(_, _) := {""}

named(known, code) := known[code] if count(known[code]) > 0

# Where it is in the document or call: the message table knows, else the name itself.
reason(code, name, place, prefix) := {
	"code": code,
	"message": replace(object.get(entry, "message", "the policy refuses {}"), "{}", name),
	"field": concat("", [prefix, replace(object.get(entry, place, "{}"), "{}", name)]),
} if {
	entry := object.get(messages, code, {})
}
