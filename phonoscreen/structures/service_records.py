"""What a study asks of a database service, and what a record of one becomes: a candidate, or a problem in words."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.names import harmless_id
from phonoscreen.structures.candidate import NOT_GIVEN, Candidate
from phonoscreen.structures.formulas import formula_of

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True)
class Request:
    """What a study asks of a service.

    Parameters
    ----------
    url : address of the service
    classes : names like ``"225-ABC2"``, None for all crystals
    formation_energy_max_ev_per_atom, hull_distance_max_ev_per_atom : limits, eV/atom
    page_limit : records per page
    properties : names of the provider's own properties (OPTIMADE), see ``phonoscreen.structures.optimade``
    """

    url: str
    classes: Sequence[str] | None
    formation_energy_max_ev_per_atom: float
    hull_distance_max_ev_per_atom: float
    page_limit: int = 50
    properties: Mapping[str, str | None] = field(default_factory=dict)

    def limits(self) -> dict[str, Any]:
        """Return what decides which structures the answer holds."""
        return {
            "classes": None if self.classes is None else sorted(self.classes),
            "formation_energy_max_ev_per_atom": self.formation_energy_max_ev_per_atom,
            "hull_distance_max_ev_per_atom": self.hull_distance_max_ev_per_atom,
        }

    def digest(self) -> str:
        """Return what names the pages of this request, so that those of another are not taken for them."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def check_answered_by(self, about: Mapping[str, Any], where: str) -> None:
        """Refuse a snapshot that lacks structures of this request.

        Parameters
        ----------
        about : metadata of the snapshot
        where : its file, for the message

        Raises
        ------
        StudyError
            If it is of another service, of fewer classes or of narrower limits.
        """
        there, mine, lacks = about["limits"], self.limits(), []
        if about["url"].rstrip("/") != self.url.rstrip("/"):
            lacks.append(f"it is of {about['url']}, source.url is {self.url}")
        if there["classes"] is not None:
            absent = ["all others"] if mine["classes"] is None else sorted(set(mine["classes"]) - set(there["classes"]))
            lacks += [f"the classes {', '.join(absent)} are not in it (filter.classes)"] if absent else []
        for key in ("formation_energy_max_ev_per_atom", "hull_distance_max_ev_per_atom"):
            if there[key] < mine[key]:
                lacks.append(f"it ends at {there[key]}, filter.{key} is {mine[key]}")
        if lacks:
            raise StudyError(f"the snapshot does not answer this study: {'; '.join(lacks)}", where=where,
                             fix="name another file in source.snapshot, which is then downloaded")  # fmt: skip


@dataclass
class ServiceRecord:
    """What a record of a service says.

    Parameters
    ----------
    entry_id : id at the service, "" where it has none
    provider : what ids of the study begin with
    name : formula at the service
    formation_energy, hull_distance : as sent
    space_group_number : of the service, None where it does not say
    atoms : function that returns the crystal or raises StudyError
    """

    entry_id: str
    provider: str
    name: str = ""
    formation_energy: Any = None
    hull_distance: Any = None
    space_group_number: int | None = None
    atoms: Callable[[], Atoms] | None = None


def text_id(value: Any) -> str:
    """Return the id of an entry as text, "" for what is none."""
    is_id = isinstance(value, (int, str)) and not isinstance(value, bool)
    return str(value).strip() if is_id else ""


def preferred_rows(entries: Sequence[str], duplicates_of: Sequence[str]) -> list[bool]:
    """Return which records to keep: one per crystal, the preferred entry where it is among them, else the first.

    Parameters
    ----------
    entries : ids of the records, "" where there is none
    duplicates_of : ids of the preferred entry of the same crystal, "" where none is named; such records are kept
    """
    chosen: dict[str, int] = {}
    keep = [True] * len(entries)
    for number, (entry, other) in enumerate(zip(entries, duplicates_of, strict=True)):
        if not entry or not other:
            continue
        before = chosen.get(other)
        if before is None or (entry == other and entries[before] != other):
            chosen[other] = number
            if before is not None:
                keep[before] = False
        elif before is not None and not entry == entries[before] == other:
            keep[number] = False
    return keep


def candidates_of(source: str, records: Iterable[ServiceRecord]) -> Iterator[Candidate]:
    """Yield a Candidate for every record of a service; what a record lacks, or has odd, is its problem in words.

    Parameters
    ----------
    source : "oqmd" or "optimade"
    records : ServiceRecord
    """
    used: set[str] = set()
    for number, record in enumerate(records):
        candidate = _candidate(source, record, number)
        if candidate.structure_id in used:
            candidate.structure_id = harmless_id(f"{candidate.structure_id} record {number}")
            candidate.atoms, candidate.problem = None, f"the service gives the id {candidate.source_id} twice"
        used.add(candidate.structure_id)
        yield candidate


def _candidate(source, record, number):
    if not record.entry_id:
        return Candidate(f"{source}-record-{number}", source, "", "", None, problem="a record without an entry id")
    atoms, problem, energies = None, "", {}
    try:
        for name in ("formation_energy", "hull_distance"):
            energies[name] = _energy(name.replace("_", " "), getattr(record, name))
        atoms = record.atoms()
    except StudyError as error:
        problem = error.what
    formula = formula_of(atoms.numbers) if atoms is not None else record.name
    return Candidate(
        harmless_id(f"{record.provider}-{record.entry_id}"), source, record.entry_id, formula, atoms,
        energies.get("formation_energy", NOT_GIVEN), energies.get("hull_distance", NOT_GIVEN), problem=problem,
        source_space_group_number=record.space_group_number or 0,
    )  # fmt: skip


def _energy(name, value):
    """Return an energy in eV/atom, also where it is given as text; NaN for none."""
    if value is None:
        return NOT_GIVEN
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise StudyError(f"the {name} {str(value)[:40]!r} is no number", fix="look at the record in the snapshot")
    return number
