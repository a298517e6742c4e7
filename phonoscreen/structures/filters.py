"""From candidates to the manifest: filters, classes, duplicates, parts and shards."""

import heapq
import math
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ase.data import chemical_symbols
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.seeds import derive_seed
from phonoscreen.crystal.geometry import same_crystal

_NOBLE_GASES = {"He", "Ne", "Ar", "Kr", "Xe"}
_LANTHANIDES_CE_TO_LU = set(chemical_symbols[58:72])


def paper_elements() -> set[str]:
    """The 63 elements of the study: Z = 1 to 83 without noble gases, Ce to Lu and Tc."""
    return set(chemical_symbols[1:84]) - _NOBLE_GASES - _LANTHANIDES_CE_TO_LU - {"Tc"}


def allowed_elements(setting: str | Iterable[str]) -> set[str]:
    """Return the set of element symbols of ``filter.elements`` ("paper63" or a list)."""
    if setting == "paper63":
        return paper_elements()
    unknown = sorted(set(setting) - set(chemical_symbols[1:]))
    if unknown:
        raise StudyError(f"unknown elements {unknown}", where="config filter.elements", fix="use element symbols")
    return set(setting)


def allowed_classes(setting: str | Iterable[str], table1: Iterable[str]) -> set[str] | None:
    """Return the classes of ``filter.classes``, or None where every class is welcome.

    Parameters
    ----------
    setting : "table1", "any" or a list of names like ``"186-AB"``
    table1 : names of the classes of Table 1
    """
    if setting == "any":
        return None
    return set(table1 if setting == "table1" else setting)


def part_sizes(n_structures: int, training_structures: int, validation_structures: int) -> tuple[int, int]:
    """Return the sizes of the parts training and validation that are drawn.

    They are those asked for where the study holds as many structures. A smaller study is divided 80:10:10 into
    training, validation and unexplored structures, with at least one for training, then one for validation, then one
    unexplored: a model without untrained structures cannot be judged.
    """
    if n_structures >= training_structures + validation_structures:
        return training_structures, validation_structures
    held_out = max(1, round(0.1 * n_structures)) if n_structures > 1 else 0
    validation = min(held_out, validation_structures)
    unexplored = held_out if n_structures > 2 else 0
    return min(training_structures, n_structures - validation - unexplored), validation


def reason_to_skip(
    candidate: Any, elements: set[str], formation_energy_max_ev_per_atom: float, hull_distance_max_ev_per_atom: float
) -> str:
    """Return why a row of the candidates' table is left out before its symmetry is known, or "".

    Energies that the source does not give pass.

    Parameters
    ----------
    candidate : row with ``formation_energy_ev_per_atom, hull_distance_ev_per_atom``
    elements : set of symbols of the structure's elements not in the study
    formation_energy_max_ev_per_atom, hull_distance_max_ev_per_atom : limits, eV/atom
    """
    if elements:
        return f"elements outside the study: {', '.join(sorted(elements))} (filter.elements)"
    energy, hull = candidate.formation_energy_ev_per_atom, candidate.hull_distance_ev_per_atom
    if energy > formation_energy_max_ev_per_atom:
        return f"formation energy {energy:.3f} above {formation_energy_max_ev_per_atom} eV/atom"
    if hull > hull_distance_max_ev_per_atom:
        return f"hull distance {hull:.3f} above {hull_distance_max_ev_per_atom} eV/atom"
    return ""


def find_duplicates(structures: Iterable[tuple[str, Hashable, dict[tuple[int, int], NDArray]]]) -> dict[str, str]:
    """Find structures that occur twice.

    Parameters
    ----------
    structures : list of (structure_id, key, fingerprint), the preferred first; only structures of one key (formula
        and class) are compared, by ``phonoscreen.crystal.geometry.distance_fingerprint``

    Returns
    -------
    dict from the id of a duplicate to the id that is kept
    """
    kept: dict[Hashable, list] = {}
    duplicates = {}
    for structure_id, key, fingerprint in structures:
        for other_id, other in kept.setdefault(key, []):
            if same_crystal(fingerprint, other):
                duplicates[structure_id] = other_id
                break
        else:
            kept[key].append((structure_id, fingerprint))
    return duplicates


def draw_parts(
    classes: Mapping[str, str], training_structures: int, validation_structures: int, seed: int
) -> dict[str, str]:
    """Draw the training and validation parts in proportion to the classes.

    Every structure gets a number from the seed and its id; the lowest of each class become training, the next
    validation, the rest unexplored. Adding a structure therefore moves few others.

    Parameters
    ----------
    classes : dict from structure id to class
    training_structures, validation_structures : sizes of the parts, fewer where there are not enough structures
    seed : the study's seed

    Returns
    -------
    dict from structure id to part
    """
    members: dict[str, list[str]] = {}
    for structure_id in sorted(classes, key=lambda name: derive_seed(seed, name, "part")):
        members.setdefault(classes[structure_id], []).append(structure_id)
    sizes = {name: len(ids) for name, ids in members.items()}
    training = _shares(sizes, training_structures)
    left = {name: sizes[name] - training[name] for name in sizes}
    validation = _shares(left, validation_structures)
    parts = {}
    for name, ids in members.items():
        last = training[name] + validation[name]
        parts.update({structure_id: "training" for structure_id in ids[: training[name]]})
        parts.update({structure_id: "validation" for structure_id in ids[training[name] : last]})
        parts.update({structure_id: "unexplored" for structure_id in ids[last:]})
    return parts


def _shares(sizes, total):
    """Divide a total over classes in proportion to their sizes (largest remainders)."""
    everything = sum(sizes.values())
    if everything <= total:
        return dict(sizes)
    exact = {name: total * size / everything for name, size in sizes.items()}
    shares = {name: math.floor(value) for name, value in exact.items()}
    by_remainder = sorted(sizes, key=lambda name: (shares[name] - exact[name], name))
    for name in by_remainder[: total - sum(shares.values())]:
        shares[name] += 1
    return shares


def assign_shards(costs: Mapping[str, float], shards: Iterable[str]) -> dict[str, str]:
    """Assign structures to shards of about equal cost: the costliest first, each to the least loaded shard.

    Parameters
    ----------
    costs : dict from structure id to cost in any unit
    shards : names of the shards

    Returns
    -------
    dict from structure id to shard
    """
    loads = [(0.0, 0, shard) for shard in shards]
    assignment = {}
    for structure_id in sorted(costs, key=lambda name: (-costs[name], name)):
        load, count, shard = heapq.heappop(loads)
        assignment[structure_id] = shard
        heapq.heappush(loads, (load + costs[structure_id], count + 1, shard))
    return assignment


MOST_ADDED = 0.1
"""Of the structures that a study had, as many may be added without dividing it anew."""


@dataclass(frozen=True)
class Division:
    """How the structures of a study are divided.

    Attributes
    ----------
    of : (part, shard) by structure id
    shards : names of the shards
    """

    of: Mapping[str, tuple[str, str]]
    shards: tuple[str, ...]

    def serves(self, names: Collection[str], shards: Sequence[str]) -> bool:
        """Return whether it still serves a study of some structures and shards: the same, or grown a little."""
        n_added = len(set(names) - self.of.keys())
        kept = n_added > 0 or tuple(shards) == self.shards
        return kept and set(self.shards) <= set(shards) and n_added <= MOST_ADDED * len(self.of)

    def assign(self, costs: Mapping[str, float], shards: Sequence[str]) -> dict[str, str]:
        """Assign the structures of a study that it serves to shards: every earlier one stays where it was.

        The added ones go to the shards that were not there before, or else all of them to the least loaded one: the
        other shards have nothing to compute.

        Parameters
        ----------
        costs, shards : as in ``assign_shards``

        Returns
        -------
        dict from structure id to shard
        """
        assignment = {name: self.of[name][1] for name in costs if name in self.of}
        loads = dict.fromkeys(shards, 0.0)
        for name, shard in assignment.items():
            loads[shard] += costs[name]
        new = [shard for shard in shards if shard not in self.shards]
        added = {name: cost for name, cost in costs.items() if name not in self.of}
        return assignment | assign_shards(added, new or [min(shards, key=lambda shard: (loads[shard], shard))])
