"""The manifest: which candidates belong to the study, their class, part and shard."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy
import pandas

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.records import count_reasons
from phonoscreen.crystal.geometry import distance_fingerprint
from phonoscreen.formats.hidden_content import own_masses
from phonoscreen.structures.filters import (
    Division,
    allowed_elements,
    assign_shards,
    draw_parts,
    find_duplicates,
    part_sizes,
    reason_to_skip,
)
from phonoscreen.structures.prototypes import classify, formula_type
from phonoscreen.structures.space_groups import disagreement

if TYPE_CHECKING:
    from ase import Atoms

log = logging.getLogger("phonoscreen")

STAGE = "filter_structures"
COLUMNS = [
    "structure_id", "formula", "space_group_number", "formula_type", "prototype", "n_atoms", "part", "shard",
]  # fmt: skip


def build_manifest(
    table: pandas.DataFrame,
    structures: Mapping[str, Atoms],
    classes: Collection[str] | None,
    settings: Mapping[str, Any],
    shards: Sequence[str],
    seed: int,
    threads: int = 1,
    earlier: Division | None = None,
) -> tuple[pandas.DataFrame, list[dict], dict[str, Atoms]]:
    """Filter the candidates and assign the rest to parts and shards.

    Parameters
    ----------
    table : candidates' table (``phonoscreen.structures.candidate``)
    structures : dict of ase.Atoms by structure id
    classes : names of the classes of the study, for example ``"225-AB"``; None for all
    settings : ``filter`` of the config
    shards : names of the shards
    seed : the study's seed
    threads : processes that search symmetries
    earlier : how the study was divided before; structures that it had keep part and shard if only a few are added

    Returns
    -------
    manifest : DataFrame with one row per structure of the study
    records : list of dicts, one per candidate
    primitive : dict of symmetrised primitive cells, ase.Atoms, by structure id

    Raises
    ------
    StudyError
        If no structure is left; with the reasons and how often each occurs.
    """
    records = {name: _record(name, "", "") for name in table["structure_id"]}
    search = []
    listed: Any = table.itertuples()
    for row in listed:
        atoms = structures.get(row.structure_id)
        if atoms is None:
            records[row.structure_id] = _record(row.structure_id, "failed", row.problem or "no geometry")
            continue
        foreign = set(atoms.symbols) - allowed_elements(settings["elements"])
        reason = reason_to_skip(
            row, foreign, settings["formation_energy_max_ev_per_atom"], settings["hull_distance_max_ev_per_atom"]
        )
        kind = formula_type(atoms.numbers)
        if not reason and row.part == "check":
            reason = "kept for the checks (part check)"
        if not reason and classes is not None and not any(name.endswith(f"-{kind}") for name in classes):
            reason = f"formula type {kind} is not among the classes of the study (filter.classes)"
        if reason:
            records[row.structure_id] = _record(row.structure_id, "skipped", reason)
        else:
            search.append(row)
    found, notes = {}, {}
    tolerance = settings["symmetry_tolerance_angstrom"]
    for row, result in zip(search, _classify_all([structures[r.structure_id] for r in search], tolerance, threads)):
        if isinstance(result, str):
            records[row.structure_id] = _record(row.structure_id, "failed", result)
        elif classes is not None and result[0].prototype not in classes:
            reason = f"class {result[0].prototype} is not among those of the study (filter.classes)"
            records[row.structure_id] = _record(row.structure_id, "skipped", reason)
        else:
            found[row.structure_id] = (row, *result)
        if not isinstance(result, str):
            said = int(getattr(row, "source_space_group_number", 0))
            notes[row.structure_id] = result[0].space_group_number, said
    # The structure nearest the hull is kept of those that occur twice; NaN sorts last.
    order = sorted(found, key=lambda name: _preference(found[name][0]))
    keyed = [(name, _identity(one), mark) for name, (_, one, mark) in ((n, found[n]) for n in order)]
    for name, kept in find_duplicates(keyed).items():
        records[name] = _record(name, "skipped", f"same structure as {kept}")
        del found[name]
    if not found:
        raise _nothing_left(records.values())
    assembled = _assemble({name: found[name][:2] for name in found}, records, settings, shards, seed, earlier)
    for name, record in records.items():
        number, said = notes.get(name, (0, 0))
        note = disagreement(structures[name], number, said, tolerance) if said else ""
        record |= {"space_group_number": number, "source_space_group_number": said, "disagreement": note}
    return assembled


def _nothing_left(records):
    lines = [
        f"    {count} {status}: {reason} ({', '.join(examples)}{', …' if count > len(examples) else ''})"
        for status, reason, count, examples in count_reasons(records)[:20]
    ]
    return StudyError(
        "\n".join([f"none of the {len(list(records))} candidates is left:", *lines]), where=f"stage {STAGE}",
        fix="widen filter.classes (any), filter.elements or the limits of energy, or correct the structures",
    )  # fmt: skip


def _identity(classified):
    """Return what two structures must share before their distances are compared."""
    return classified.formula, classified.prototype, tuple(sorted(own_masses(classified.atoms).items()))


def _assemble(found, records, settings, shards, seed, earlier):
    unassigned = {name: one.prototype for name, (row, one) in found.items() if not row.part}
    sizes = part_sizes(len(unassigned), settings["training_structures"], settings["validation_structures"])
    drawn = draw_parts(unassigned, *sizes, seed)
    # Transport dominates the cost and grows with the cube of the number of bands, its mesh shrinks with the cell.
    costs = {name: float(len(one.atoms) ** 2) for name, (_, one) in found.items()}
    if earlier and earlier.serves(costs, shards):
        drawn = {name: earlier.of[name][0] if name in earlier.of else "unexplored" for name in unassigned}
        shard_of = earlier.assign(costs, shards)
    else:
        shard_of = assign_shards(costs, shards)
    rows = []
    for name, (row, one) in found.items():
        records[name] = _record(name, "ok", "")
        part = row.part or drawn[name]
        rows.append(
            (name, one.formula, one.space_group_number, one.formula_type, one.prototype, len(one.atoms), part,
             shard_of[name])
        )  # fmt: skip
    manifest = pandas.DataFrame(rows, columns=COLUMNS).sort_values("structure_id", ignore_index=True)
    log.info("%d candidates, %d in the manifest", len(records), len(manifest))
    return manifest, list(records.values()), {name: one.atoms for name, (_, one) in found.items()}


def _record(structure_id, status, reason):
    return {"structure_id": structure_id, "stage": STAGE, "status": status, "reason": reason,
            "failure": "structure" if status == "failed" else ""}  # fmt: skip


def _preference(row):
    hull = row.hull_distance_ev_per_atom
    return (hull != hull, hull if hull == hull else 0.0, row.structure_id)


def _classify_all(structures, tolerance, threads):
    work = partial(_classify_or_reason, tolerance=tolerance)
    if threads < 2 or len(structures) < 100:
        return [work(atoms) for atoms in structures]
    with ProcessPoolExecutor(threads) as pool:
        return list(pool.map(work, structures, chunksize=50))


def _classify_or_reason(atoms, tolerance):
    try:
        classified = classify(atoms, tolerance)
        return classified, distance_fingerprint(classified.atoms)
    except StudyError as error:
        return error.what
    except (ValueError, RuntimeError, numpy.linalg.LinAlgError) as error:
        return f"no symmetry: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
