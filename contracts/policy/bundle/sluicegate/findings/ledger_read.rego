# METADATA
# title: Who offends in a reading of the ledger
# description: The names behind each check of `sluicegate.ledger_read` that fails.
package sluicegate.findings.ledger_read

import data.sluicegate.ledger_read

offenders["NOT_CONCERNED"] := concerned

offenders["PARTY_KIND_WRONG"] := {input.subject.kind}

offenders["ROLE_MISSING"] := {"of any kind"}

concerned := ledger_read.foreign if count(input.entries.parties) > 0

concerned := {"nobody"} if count(input.entries.parties) == 0
