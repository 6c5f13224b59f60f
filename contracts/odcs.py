"""Reading sharing contracts: ODCS documents with the sluicegate properties, checked as a whole.

A contract is a valid ODCS data contract (3.0, 3.1 or 3.2), so departments keep the tools they have.
What ODCS has no field for stands in custom properties of vendor `sluicegate`. `load` reports every
violation at once, each with line and path; what a contract means beyond its form is judged by
`contracts.lint` and, against real data, by `contracts.plan`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from contracts import publishing, standard, yaml12
from contracts.canonical import digest, terms_digest
from contracts.dtypes import DType
from contracts.errors import Reason, SluicegateError, Violation, nearest
from contracts.findings import ODCS, Findings, show
from contracts.model import AccessRole, Contract, Obligations, Purpose, Responsibility, Sharing, SharingClass
from contracts.odcs_fields import KINDS, MAX_FIELDS, VENDOR, check_categories, found_value, maps, read_fields
from contracts.odcs_purposes import check_duration, converted, read_negative_list, read_purposes
from contracts.yaml12 import Json, Located, Path

PROPERTIES: Final = ("sharing", "purposes", "negativeList", "obligations", "responsibilities")

MAX_SERVERS: Final = 100

_READABLE = re.compile(r"v3\.[0-2]\.[0-9]+")
_VERSION = re.compile(r"(0|[1-9][0-9]{0,4})(\.(0|[1-9][0-9]{0,4})){2}")
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_SEPARATORS = re.compile(r"\s*[,;]\s*")
_PERSON = re.compile(r"[^\s@]{1,128}@[^\s@]{1,125}")


class LoadedContract(Struct, frozen=True):
    """A contract with what it came from: the exact bytes, their parsed document, and its lines."""

    contract: Contract
    document: dict[str, Any]
    raw: bytes
    lines: Located

    def located(self, violations: Iterable[Violation]) -> tuple[Violation, ...]:
        """The same violations, with the line of its path for each that has none."""
        return tuple(self._located(violation) for violation in violations)

    def _located(self, found: Violation) -> Violation:
        line = self.lines.line(found.path) if found.line is None else found.line
        return Violation(found.path, found.message, found.hint, line, found.code)


def fits(logical_type: str, dtype: DType) -> bool:
    """Whether data of that type may stand in a column of that ODCS logical type.

    >>> from contracts.dtypes import INT32
    >>> fits("number", INT32), fits("string", INT32)
    (True, False)
    """
    return dtype.kind in KINDS.get(logical_type, frozenset())


def strip(raw: bytes, *, name: str = "contract") -> bytes:
    """A copy that can be published: see `contracts.publishing.strip`."""
    return publishing.strip(raw, name=name)


def load(raw: bytes, *, name: str = "contract") -> LoadedContract:
    """Read a contract from the bytes of its file; `name` is what errors call it.

    Raises TOO_LARGE above 2 MiB, else CONTRACT_INVALID with every violation: of the YAML limits, of
    the ODCS schema, of the five properties and the fields' properties, of references (fields, DPV
    terms, standard, durations), and what may not be published.
    """
    located = yaml12.load(raw, name=name)
    document = _odcs_document(located)
    found = Findings(located)
    for path, message, hint in publishing.exposed(document):
        found.add(path, message, hint, "EXPOSED")
    contract = _Reader(document, found).contract()
    found.refuse()
    if contract is None:
        raise SluicegateError(Reason.INTERNAL, f"{name}: the contract cannot be read, and no rule says why")
    return LoadedContract(contract, document, raw, located)


def _odcs_document(located: Located) -> dict[str, Any]:
    """The document, if it is an ODCS contract of a version that is read; of anything else no more
    needs to be said."""
    document = located.value
    found = Findings(located)
    hint = "a contract begins with 'apiVersion: v3.2.0' and 'kind: DataContract'"
    if not isinstance(document, dict):
        message = f"not an ODCS data contract: found {yaml12.kind_of(document)}; a map is expected"
        found.add((), message, hint, "NOT_ODCS")
    else:
        kind, version = document.get("kind"), document.get("apiVersion")
        if kind != "DataContract":
            message = f"not an ODCS data contract: found {found_value(kind)}; allowed: 'DataContract'"
            found.add(("kind",), message, hint, "NOT_ODCS")
        if not (isinstance(version, str) and _READABLE.fullmatch(version)):
            message = f"found {found_value(version)}; ODCS 3.0, 3.1 and 3.2 are read, such as 'v3.2.0'"
            found.add(("apiVersion",), message, hint, "NOT_ODCS")
    found.refuse()
    return dict(document)


class _Reader:
    """Reads one document into a contract. Every method reports what is wrong and returns what could
    be read, so that one wrong part does not hide the next."""

    def __init__(self, document: dict[str, Any], found: Findings) -> None:
        self.document = document
        self.found = found
        # ODCS knew no `vendor` before 3.2: there the bare names are ours.
        self.vendor_needed = str(document["apiVersion"]).startswith("v3.2.")

    def contract(self) -> Contract | None:
        """The whole contract; None when anything was found."""
        document, found = self.document, self.found
        dataset = self._id(("name",), document.get("name"), "the dataset's id")
        version = self._version()
        fields, table = read_fields(found, document)
        at = self._properties()
        sharing = self._sharing(*at["sharing"])
        if sharing is not None:
            check_categories(found, document, fields, sharing.standard)
        purposes = self._purposes(*at["purposes"], sharing, read_purposes(found, *at["purposes"], fields))
        negative = read_negative_list(found, *at["negativeList"], fields)
        obligations = self._obligations(*at["obligations"])
        responsibilities = converted(found, *at["responsibilities"], dict[str, Responsibility]) or {}
        provider = self._provider(responsibilities)
        roles = self._roles(at["purposes"][1])
        # Last, because of two messages about one value the narrower, our own, is the one to read.
        if self._worth_checking():
            found.check((), document, ODCS)
        if found.violations or sharing is None or negative is None or obligations is None:
            return None
        return Contract(
            id=str(document["id"]),
            dataset=dataset,
            version=version,
            provider=provider,
            domain=str(document.get("domain") or ""),
            description=self._description(),
            tags=tuple(str(tag) for tag in document.get("tags") or ()),
            table=table,
            fields=tuple(fields.values()),
            roles=roles,
            sharing=sharing,
            purposes=purposes,
            negative_list=negative,
            obligations=obligations,
            responsibilities=responsibilities,
            document_digest=digest(document),
            terms_digest=terms_digest(document),
        )

    # --- the document's own vocabulary ------------------------------------------------------------

    def _id(self, path: Path, value: Json, what: str) -> str:
        if isinstance(value, str) and _ID.fullmatch(value):
            return value
        message = f"found {found_value(value)}; here stands {what}: lower-case letters, digits and hyphens, at most 63"
        self.found.add(path, message, "such as hospital-visits", "ID_INVALID")
        return ""

    def _version(self) -> str:
        value = self.document.get("version")
        if isinstance(value, str) and _VERSION.fullmatch(value):
            return value
        message = f"found {found_value(value)}; allowed: three numbers, such as '1.0.0'"
        self.found.add(("version",), message, "", "VERSION_INVALID")
        return ""

    def _description(self) -> str:
        described = self.document.get("description")
        parts = described if isinstance(described, Mapping) else {}
        return "\n".join(str(parts[key]).strip() for key in ("purpose", "usage", "limitations") if parts.get(key))

    def _provider(self, responsibilities: Mapping[str, Responsibility]) -> str:
        """The publishing party: the team's name. A team of ODCS 3.0 is a list without a name; there it
        is the party that answers for the classification."""
        team = self.document.get("team")
        if isinstance(team, list) and "classification" in responsibilities:
            return responsibilities["classification"].party
        name = team.get("name") if isinstance(team, Mapping) else None
        return self._id(("team", "name"), name, "the party id of the department that publishes")

    def _roles(self, purposes: Json) -> tuple[AccessRole, ...]:
        """The access roles of the purposes; other ODCS roles are no business of ours."""
        roles: dict[str, AccessRole] = {}
        for index, item in maps(self.document.get("roles")):
            path, name = ("roles", index), str(item.get("role"))
            if not isinstance(purposes, Mapping) or name not in purposes:
                continue
            if name in roles:
                self.found.add(path, f"the role {show(name)} comes twice", "keep one", "DUPLICATE")
            levels = (
                self._approvers((*path, key), item.get(key)) for key in ("firstLevelApprovers", "secondLevelApprovers")
            )
            first, second = levels
            roles[name] = AccessRole(role=name, first_level_approvers=first, second_level_approvers=second)
        return tuple(roles.values())

    def _approvers(self, path: Path, value: Json) -> tuple[str, ...]:
        people = [word for word in _SEPARATORS.split(value.strip()) if word] if isinstance(value, str) else []
        for person in people:
            if not _PERSON.fullmatch(person):
                message = f"found {show(person)}; allowed: persons written name@organisation, separated by commas"
                self.found.add(path, message, "write each approver as registered", "APPROVER_INVALID")
        return tuple(dict.fromkeys(people))

    def _worth_checking(self) -> bool:
        """Whether the document is of a size that the ODCS schema can judge in a second or two; of
        fields, `read_fields` says so."""
        servers = self.document.get("servers")
        if isinstance(servers, list) and len(servers) > MAX_SERVERS:
            message = f"found {len(servers)} servers; allowed: at most {MAX_SERVERS}"
            self.found.add(("servers",), message, "servers are not read: remove them", "SERVER_COUNT")
            return False
        tables = maps(self.document.get("schema"))
        return sum(1 for _, table in tables for _ in maps(table.get("properties"))) <= MAX_FIELDS

    # --- the five properties ------------------------------------------------------------------------

    def _properties(self) -> dict[str, tuple[Path, Json]]:
        """Path and value of each property. Missing, doubled and unknown ones are reported."""
        values: dict[str, tuple[Path, Json]] = {}
        unclaimed: set[str] = set()
        for index, entry in maps(self.document.get("customProperties")):
            path, key, vendor = ("customProperties", index), str(entry.get("property")), entry.get("vendor")
            if vendor is None and self.vendor_needed:
                unclaimed.add(key)
            elif vendor == VENDOR and key not in PROPERTIES:
                message = f"there is no sluicegate property {show(key)}"
                self.found.add(path, message, nearest(key, PROPERTIES), "PROPERTY_UNKNOWN")
            elif vendor in (None, VENDOR) and key in PROPERTIES:
                if key in values:
                    self.found.add(path, f"the property '{key}' comes twice", "keep one", "DUPLICATE")
                values.setdefault(key, ((*path, "value"), entry.get("value")))
        for key in PROPERTIES:
            if key in values:
                self.found.check(*values[key], key)
            else:
                values[key] = (("customProperties", key), None)
                hint = f"add 'vendor: {VENDOR}' to it" if key in unclaimed else "add it to the root's customProperties"
                self.found.add(values[key][0], f"the property '{key}' is missing", hint, "PROPERTY_MISSING")
        return values

    def _sharing(self, path: Path, value: Json) -> Sharing | None:
        sharing = converted(self.found, path, value, Sharing)
        if sharing is None or sharing.standard in standard.ids():
            return sharing
        message = f"there is no standard {show(sharing.standard)}; allowed: {', '.join(standard.ids())}"
        self.found.add((*path, "standard"), message, "", "STANDARD_UNKNOWN")
        return None

    def _purposes(
        self, path: Path, value: Json, sharing: Sharing | None, read: dict[str, Purpose]
    ) -> dict[str, Purpose]:
        if value == {} and sharing is not None and sharing.class_ != SharingClass.NOT_SHARED:
            message = f"a contract of class {sharing.class_} has at least one purpose"
            self.found.add(path, message, "list a purpose, or share nothing: class not-shared", "PURPOSES_EMPTY")
        return read

    def _obligations(self, path: Path, value: Json) -> Obligations | None:
        for key in ("deletionProof", "breachNotice"):
            check_duration(self.found, (*path, key), value.get(key) if isinstance(value, Mapping) else None)
        return converted(self.found, path, value, Obligations)
