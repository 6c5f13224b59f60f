"""Everything that is wrong with one document, collected: path, line, what was found, what is allowed.

`Findings` knows the document's lines; JSON Schema errors are put into the same words as our own, so
that a steward reads one kind of message. What a message quotes comes from the contract, which is
published; sample values of data (`examples`) are never quoted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from importlib.util import find_spec
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from contracts.errors import Reason, SluicegateError, Violation, nearest
from contracts.yaml12 import Json, Located, Path, kind_of, write_path

if TYPE_CHECKING:
    # Imported when the first document is checked: most commands read none.
    from jsonschema.exceptions import ValidationError

MAX_FINDINGS: Final = 500
ODCS: Final = "odcs"  # the schema that the package open_data_contract_standard ships

_NEVER_QUOTED = frozenset({"examples", "enum", "quality"})  # may hold values of the data
_TYPES = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "object": "a map",
    "array": "a list",
    "null": "null",
}


class Findings:
    """Collects violations of one document. Add everything, then `refuse`."""

    def __init__(self, located: Located) -> None:
        self._located = located
        self._found: dict[tuple[Path, str], Violation] = {}

    def add(self, path: Path, message: str, hint: str = "", code: str = "") -> None:
        """One thing wrong at a path of the document, with the line of its nearest part."""
        if len(self._found) < MAX_FINDINGS:
            written = write_path(self._located.value, path)
            line = self._located.line(path)
            self._found.setdefault((path, message), Violation(written or "(document)", message, hint, line, code))

    def add_all(self, path: Path, violations: Iterable[Violation]) -> None:
        """What another part found in a value of this document: its paths continue `path`."""
        for violation in violations:
            inside = tuple(violation.path.split(".")) if violation.path else ()
            self.add((*path, *inside), violation.message, violation.hint, violation.code)

    def check(self, path: Path, value: Json, schema: str) -> bool:
        """Validate a part of the document by a JSON Schema; whether it is valid. What the ODCS schema
        says of a value that something was already found in is left out."""
        before = len(self._found)
        for error in _validator(schema).iter_errors(value):
            if len(self._found) >= MAX_FINDINGS:
                break
            for place, message, hint in _explain(error, schema):
                if schema != ODCS:
                    self.add((*path, *place), message, hint, "SCHEMA_INVALID")
                elif self.clean((*path, *place)):
                    self.add((*path, *place), message, hint, "ODCS_INVALID")
        return len(self._found) == before

    def clean(self, path: Path) -> bool:
        """Whether nothing was found at or below that path."""
        return not any(found[: len(path)] == path for found, _ in self._found)

    @property
    def violations(self) -> tuple[Violation, ...]:
        """Everything found, in the order of the file."""
        return tuple(sorted(self._found.values(), key=lambda violation: violation.line or 0))

    def refuse(self) -> None:
        """Raise CONTRACT_INVALID with every violation, if there is any."""
        refuse(self._located.name, self.violations)


def refuse(name: str, violations: tuple[Violation, ...]) -> None:
    """Raise CONTRACT_INVALID for a file with these violations, if there are any."""
    if violations:
        count = f"{len(violations)} violation{'s' if len(violations) > 1 else ''}"
        more = "; there may be more" if len(violations) >= MAX_FINDINGS else ""
        raise SluicegateError(Reason.CONTRACT_INVALID, f"{name}: {count} of the contract's rules{more}", violations)


@cache
def _validator(schema: str) -> Any:
    from jsonschema import Draft201909Validator, Draft202012Validator
    from jsonschema import validators as json_schema

    if schema == ODCS:
        ours: Any = json_schema.extend(  # type: ignore[no-untyped-call]
            Draft201909Validator, {"unevaluatedProperties": _unevaluated_properties}
        )
        return ours(_odcs_schema())
    raw = resources.files("contracts").joinpath("schema", f"{schema}.json").read_bytes()
    return Draft202012Validator(json.loads(raw))


def _odcs_schema() -> dict[str, Any]:
    # Found, not imported: the package's import would load its pydantic model, which we do not use.
    spec = find_spec("open_data_contract_standard")
    loader: Any = spec.loader if spec is not None else None
    if spec is None or spec.origin is None or loader is None:
        raise SluicegateError(Reason.INTERNAL, "the package open_data_contract_standard is not installed")
    schema: dict[str, Any] = json.loads(loader.get_data(str(PurePath(spec.origin).with_name("schema.json"))))
    return schema


def _unevaluated_properties(validator: Any, allowed: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """The keyword for what the ODCS schema uses: forbid what no `properties` speaks of, through
    references, combinations and the branch of a condition that applies.

    The library's own version validates every part again to see what it covers: a second for 1,000
    fields, and properties of a part that fails for another reason are reported as unknown.
    """
    from jsonschema.exceptions import ValidationError

    if allowed is False and isinstance(instance, Mapping):
        unknown = sorted(instance.keys() - _spoken_of(validator, schema, instance))
        if unknown:
            yield ValidationError("unknown", validator="unevaluatedProperties", validator_value=unknown)


def _spoken_of(validator: Any, schema: Any, instance: Any) -> set[str]:
    names = set(schema.get("properties", ()))
    if isinstance(reference := schema.get("$ref"), str):
        names |= _spoken_of(validator, _resolve(reference, _root(ODCS)), instance)
    for part in (*schema.get("allOf", ()), *schema.get("anyOf", ()), *schema.get("oneOf", ())):
        names |= _spoken_of(validator, part, instance)
    if "if" in schema:
        branch = "then" if validator.evolve(schema=schema["if"]).is_valid(instance) else "else"
        names |= _spoken_of(validator, schema["if"], instance) | _spoken_of(validator, schema.get(branch, {}), instance)
    return names


# --- JSON Schema errors in words ------------------------------------------------------------------

_Finding = tuple[Path, str, str]  # path below the validated value, message, hint


def _explain(error: ValidationError, schema: str) -> Iterator[_Finding]:
    path: Path = tuple(error.absolute_path)
    keyword = error.validator
    allowed: Any = error.validator_value
    value: Any = error.instance
    if keyword in ("anyOf", "oneOf"):
        yield from _explain_choice(error, schema)
    elif keyword in ("additionalProperties", "unevaluatedProperties"):
        known = _declared(error.schema, _root(schema))
        for key in allowed if keyword == "unevaluatedProperties" else [key for key in value if key not in known]:
            yield (*path, key), f"there is no '{key[:64]}' here", nearest(key, known)
    elif keyword == "required":
        for key in allowed if isinstance(value, Mapping) else ():
            if key not in value:
                yield (*path, key), f"`{key}` is missing", _description(error.schema, key, schema)
    elif keyword == "not" and schema != ODCS:
        yield path, f"not allowed here: {_described(error.schema)}", ""
    else:
        hint = nearest(value, allowed) if keyword == "enum" and isinstance(value, str) else ""
        found = "" if _NEVER_QUOTED & set(path) else f"found {show(value)}; "
        yield path, found + _allowed(str(keyword), allowed, "" if schema == ODCS else _described(error.schema)), hint


def _explain_choice(error: ValidationError, schema: str) -> Iterator[_Finding]:
    """Of alternatives, the one that was meant: the only one whose type fits."""
    branches: dict[int, list[ValidationError]] = {}
    for child in error.context or ():
        branches.setdefault(int(child.schema_path[0]), []).append(child)
    meant = [errors for errors in branches.values() if not any(_is_own_type(child, error) for child in errors)]
    if len(meant) == 1:
        for child in meant[0]:
            yield from _explain(child, schema)
        return
    kinds = sorted(
        {str(_TYPES.get(str(child.validator_value), "")) for errors in branches.values() for child in errors}
    )
    allowed = " or ".join(filter(None, kinds)) or "one of the forms that the standard describes"
    yield tuple(error.absolute_path), f"found {kind_of(error.instance)}; allowed: {allowed}", ""


def _is_own_type(child: ValidationError, parent: ValidationError) -> bool:
    return child.validator == "type" and child.absolute_path == parent.absolute_path


def _described(schema: Any) -> str:
    return str(schema.get("description", "")) if isinstance(schema, Mapping) else ""


def _allowed(keyword: str, allowed: Any, described: str) -> str:
    """What a keyword allows, in the words of the schema's own description where it has one."""
    match keyword:
        case "type":
            kinds = [allowed] if isinstance(allowed, str) else allowed
            return "allowed: " + (described or " or ".join(_TYPES.get(kind, kind) for kind in kinds))
        case "enum":
            return "allowed: " + ", ".join(str(word) for word in allowed)
        case "const":
            return f"allowed: {show(allowed)}"
        case "pattern":
            return f"allowed: {described or 'what matches ' + str(allowed)}"
        case "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum":
            words = {
                "minimum": "at least",
                "maximum": "at most",
                "exclusiveMinimum": "above",
                "exclusiveMaximum": "below",
            }
            return f"allowed: {described or f'{words[keyword]} {allowed}'}"
        case "minItems" | "minProperties" | "minLength":
            return f"at least {allowed} needed" + (f": {described}" if described else "")
        case "maxItems" | "maxProperties" | "maxLength":
            return f"at most {allowed} allowed"
        case "uniqueItems":
            return "every item may come only once"
        case _:
            return "not allowed in this combination"


def show(value: Json) -> str:
    """A value of the contract in a message: short texts and numbers as they are, else their kind."""
    if isinstance(value, str):
        return repr(value) if len(value) <= 64 else f"a text of {len(value)} characters"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, int | float) else kind_of(value)


def _root(schema: str) -> Any:
    return _validator(schema).schema


def _declared(schema: Any, root: Any) -> frozenset[str]:
    """The names of all properties that a schema declares, through references and combinations."""
    if not isinstance(schema, Mapping):
        return frozenset()
    names = set(schema.get("properties", ()))
    parts = [schema.get(word) for word in ("if", "then", "else")]
    parts += [part for word in ("allOf", "anyOf", "oneOf") for part in schema.get(word, ())]
    if isinstance(reference := schema.get("$ref"), str):
        parts.append(_resolve(reference, root))
    return frozenset(names.union(*(_declared(part, root) for part in parts)))


def _resolve(reference: str, root: Any) -> Any:
    at = root
    for word in reference.removeprefix("#/").split("/"):
        at = at[word]
    return at


def _description(schema: Any, key: str, name: str) -> str:
    part = schema.get("properties", {}).get(key, {}) if isinstance(schema, Mapping) else {}
    if isinstance(part, Mapping) and "$ref" in part:
        part = _resolve(part["$ref"], _root(name))
    return str(part.get("description", "")) if isinstance(part, Mapping) and name != ODCS else ""
