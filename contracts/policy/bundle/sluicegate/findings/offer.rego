# METADATA
# title: Who offends in a purpose
# description: The names behind each check of `sluicegate.offer` that fails, for `input.purpose`.
package sluicegate.findings.offer

import data.sluicegate.masks
import data.sluicegate.offer

offenders["AGGREGATE_MISMATCH"] := {group.treatment |
	some group in offer.plan.groups
}

offenders["BOUNDS_MISSING"] := {name |
	some group in offer.plan.groups
	not group.identifiability == "none"
	some name in object.keys(group.fields)
}

offenders["CONSUMERS_EMPTY"] := {"consumers"}

offenders["CONTRIBUTION_UNBOUNDED"] := {"contribution"}

offenders["DIRECT_AGGREGATED"] := facing("DIRECT_AGGREGATED")

offenders["DIRECT_IDENTIFIABLE"] := facing("DIRECT_IDENTIFIABLE")

offenders["DIRECT_KEPT"] := facing("DIRECT_KEPT")

offenders["ENTITY_MISSING"] := {"entity"}

offenders["EPSILON_OUT_OF_RANGE"] := {"epsilon"}

offenders["FIELDS_EMPTY"] := {"fields"}

offenders["FIELDS_TOGETHER"] := {concat(", ", sort({name | some name in combination})) | some combination in offer.together}

offenders["FIELD_NEGATIVE"] := offer.negative

offenders["FIELD_NOT_OFFERED"] := offer.names - object.keys(input.purpose.fields)

offenders["FIELD_PROHIBITED"] := facing("FIELD_PROHIBITED")

offenders["FIELD_UNCLASSIFIED"] := unknown | twice

offenders["GEOGRAPHY_CONTRADICTORY"] := {concat(", ", sort(offer.countries))}

offenders["GEOGRAPHY_MISSING"] := {"geography"}

offenders["GEOGRAPHY_UNKNOWN"] := offer.nowhere

offenders["KEEP_UNJUSTIFIED"] := facing("KEEP_UNJUSTIFIED") | offer.exposed

offenders["K_TOO_LOW"] := {format_int(offer.least_k, 10)}

offenders["LEGAL_BASIS_MISSING"] := {"legal_basis"}

offenders["PLAN_MISMATCH"] := {"purpose", "terms"} - same

offenders["PURPOSE_FORBIDDEN"] := offer.forbidden

offenders["PURPOSE_UNKNOWN"] := {input.purpose.term}

offenders["QUASI_UNDECLARED"] := facing("QUASI_UNDECLARED") - object.keys(offer.bounds.quasi_identifiers)

offenders["RETENTION_OUT_OF_RANGE"] := {input.purpose.retention}

offenders["REVERSIBLE"] := facing("REVERSIBLE")

offenders["SAMPLE_UNFIT"] := {offer.plan.sample.entity}

offenders["SENSITIVE_UNBOUNDED"] := {name | some name in facing("SENSITIVE_UNBOUNDED"); not offer.is_limited(name)}

offenders["SHARING_MODEL_UNKNOWN"] := {offer.bounds.sharing_model}

offenders["SMALL_UNFIT"] := {"suppress_small"}

offenders["SUPPRESSION_CONTRADICTORY"] := {offer.bounds.on_violation}

# The fields of the groups for which the table names that check and nothing meets it.
facing(code) := {name |
	some group in offer.plan.groups
	code in masks[group.tier][group.identifiability][group.treatment]
	not offer.met(code, group)
	some name in object.keys(group.fields)
}

unknown contains name if {
	some group in offer.plan.groups
	not offer.is_known(group)
	some name in object.keys(group.fields)
}

twice contains name if {
	some name in offer.names
	count([1 | some group in offer.plan.groups; name in object.keys(group.fields)]) > 1
}

same contains "purpose" if offer.plan.purpose == input.purpose.id

same contains "terms" if offer.plan.terms_digest == input.contract.terms_digest
