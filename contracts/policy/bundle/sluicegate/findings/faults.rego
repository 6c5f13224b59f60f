# METADATA
# title: What is wrong with the shape of an input
# description: |
#   Finds what an input lacks or has too much, by the tables of `sluicegate.shapes`. It only explains:
#   whether an input is whole is proved in `sluicegate.shape`, and both must draw the same line.
package sluicegate.findings.faults

import data.sluicegate.shapes

# What the contract offers: all its purposes when it is published, the one in question otherwise.
default offers := []

offers := input.purposes if {
	input.action == "publish"
	is_array(input.purposes)
	count(purposeless) == 0
}

# What stands among the purposes and is none.
purposeless := [offer | some offer in input.purposes; not is_object(offer)]

offers := [input.purpose] if {
	input.action in {"request", "approve", "transfer"}
	is_object(input.purpose)
}

types(value) := {key: type_name(item) | some key, item in value}

# The parts of the input that its action needs, by the name of their table.
misfits contains name if {
	some name, path in shapes.parts[input.action]
	not fits(object.get(input, path, null), shapes.tables[name])
}

bad_offers contains [at, name] if {
	some at, offer in offers
	some name, path in shapes.offer_parts
	not fits(object.get(offer, path, null), shapes.tables[name])
}

bad_offers contains [at, "bounds"] if {
	some at, offer in offers
	offer.plan.bounds != null
	not noisy(offer)
	not fits(offer.plan.bounds, shapes.tables.bounds)
}

bad_offers contains [at, "noise"] if {
	some at, offer in offers
	noisy(offer)
	not fits(offer.plan.bounds, shapes.tables.noise)
}

bad_offers contains [at, "sample"] if {
	some at, offer in offers
	offer.plan.sample != null
	not fits(offer.plan.sample, shapes.tables.sample)
}

bad_offers contains [at, "small"] if {
	some at, offer in offers
	offer.plan.suppress_small != null
	not fits(offer.plan.suppress_small, shapes.tables.small)
}

# The bounds of an aggregate, whatever else is wrong with them.
noisy(offer) if "micro_epsilon" in object.keys(offer.plan.bounds)

bad_groups contains at if {
	some at, offer in offers
	some group in offer.plan.groups
	not fits(group, shapes.tables.group)
}

# A table is the list of the forms that a part may have: more than one where a key may be null.
fits(part, forms) if types(part) in forms

# Lists of words hold words only. Counted rather than asked with `every`, whose body the embedded
# engine takes for true when it holds a comprehension.
unworded := array.concat(
	array.concat(
		[1 |
			some path in shapes.lists
			some item in object.get(input, path, [])
			not is_string(item)
		],
		[1 |
			some combination in object.get(input, ["contract", "negative", "together"], [])
			some item in combination
			not is_string(item)
		],
	),
	[1 |
		some offer in offers
		some list in [offer.ancestors, offer.consumers, offer.approvers, offer.geography.allowed]
		some item in list
		not is_string(item)
	],
)

uncombined := [1 | some combination in input.contract.negative.together; not is_array(combination)]

# Sets of names are objects; `in` looks at their values, none of which is null.
holed := array.concat(
	array.concat(
		[1 |
			some path in shapes.sets
			null in object.get(input, path, {})
		],
		[1 |
			some offer in offers
			some group in offer.plan.groups
			null in group.fields
		],
	),
	[1 |
		some offer in offers
		some path in shapes.offer_sets
		null in object.get(offer, path, {})
	],
)

found contains fault("ACTION_UNKNOWN", "the policy knows no such action", "action") if {
	not known_action
}

# Negated conditions stand in rules of their own: within `not`, an undefined reference would be looked
# up first, and leave the whole rule undefined instead of making the negation true.
known_action if shapes.actions[input.action]

found contains lacking(key) if {
	some key, type in shapes.actions[input.action]
	not is_type(input, key, type)
}

found contains needless(key) if {
	some key in (object.keys(input) - object.keys(shapes.actions[input.action]))
}

found contains lacking(concat(".", array.concat(path, [key]))) if {
	some name in misfits
	path := shapes.parts[input.action][name]
	some key in wrong(object.get(input, path, null), name)
}

found contains needless(concat(".", array.concat(path, [key]))) if {
	some name in misfits
	path := shapes.parts[input.action][name]
	some key in (object.keys(object.get(input, path, null)) - object.keys(shapes.tables[name][0]))
}

found contains lacking(concat(".", array.concat(["purpose", name], [key]))) if {
	some [at, name] in bad_offers
	some key in wrong(object.get(offers[at], offer_path(name), null), name)
}

found contains needless(concat(".", array.concat(["purpose", name], [key]))) if {
	some [at, name] in bad_offers
	some key in (object.keys(object.get(offers[at], offer_path(name), null)) - object.keys(shapes.tables[name][0]))
}

found contains fault("INPUT_INCOMPLETE", "a list of words or a set of names holds something else", "") if {
	(count(unworded) + count(uncombined)) + count(holed) > 0
}

found contains lacking("purposes") if {
	input.action == "publish"
	count(purposeless) > 0
}

found contains lacking("purpose.plan.groups") if count(bad_groups) > 0

offer_path("bounds") := ["plan", "bounds"]

offer_path("noise") := ["plan", "bounds"]

offer_path("sample") := ["plan", "sample"]

offer_path("small") := ["plan", "suppress_small"]

offer_path(name) := shapes.offer_parts[name]

is_type(part, key, type) if type_name(part[key]) == type

# The keys of a part that are absent or of a type that no form allows.
wrong(part, name) := {key |
	some key in object.keys(shapes.tables[name][0])
	not typed(part, key, name)
}

typed(part, key, name) if {
	some form in shapes.tables[name]
	type_name(part[key]) == form[key]
}

lacking(path) := fault("INPUT_INCOMPLETE", "the decision needs this, and it is absent, null or of another type", path)

needless(path) := fault("INPUT_UNKNOWN", "no decision needs this; it is refused rather than ignored", path)

fault(code, message, path) := {"code": code, "message": message, "field": path}
