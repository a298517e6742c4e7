"""Force constants of one structure fitted again by independent programs, to the same forces.

Like is compared with like. All programs solve the same least-squares problem: the residual forces of the undisplaced
supercell and the dipole-dipole part are taken out of the forces before, no rotational sum rules are imposed, and the
cutoffs are the same. symfc takes all pairs of the supercell, as the study does without a second-order cutoff; hiphive
only those within a cutoff that fits into the supercell, so this project's fit is repeated with that one. symfc also
takes triplets whose second and third atom are close only around the supercell; for it, the third-order cutoff is
lowered to where there are none, a third of the shortest supercell vector.
"""

import contextlib
import io
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy
from ase import Atoms
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.records import attempted
from phonoscreen.crystal.constants import Crystal, SecondOrder, ThirdOrder
from phonoscreen.crystal.supercell import shortest_supercell_vector, translation_table
from phonoscreen.force_constants.basis import build_basis
from phonoscreen.force_constants.cutoffs import choose_cutoff
from phonoscreen.force_constants.fit import ForceConstantFitter
from phonoscreen.force_constants.settings import FitSettings, OrderSettings
from phonoscreen.formats.hiphive import from_hiphive, third_order_of_supercell
from phonoscreen.phonons.band_path import irreducible_mesh
from phonoscreen.phonons.dipoles import dipole_constants, dipole_forces
from phonoscreen.phonons.dynamical_matrix import DynamicalMatrix, frequencies_thz
from phonoscreen.stages.force_constants import fit_arguments
from phonoscreen.structures.labelled_supercells import read_labelled
from phonoscreen.structures.own_charges import OwnCharges

if TYPE_CHECKING:
    import pandas

    from phonoscreen.audit.shard_files import ShardFiles

PROGRAMS = ("hiphive", "symfc")


@dataclass
class Problem:
    """What all programs fit.

    Attributes
    ----------
    crystal : Crystal
    repetitions : (3,) integers
    displacements, forces : (n_supercells, n_supercell_atoms, 3), angstrom and eV/angstrom
    long_range : ``SecondOrder`` of the dipole-dipole part that the forces lack, or None
    """

    crystal: Crystal
    repetitions: tuple
    displacements: numpy.ndarray
    forces: numpy.ndarray
    long_range: SecondOrder | None

    @classmethod
    def from_samples(cls, crystal: Crystal, repetitions: Sequence[int], samples: dict) -> "Problem":
        """Problem of ``samples`` as ``phonoscreen.stages.refit.fit_task`` takes them."""
        forces, moves = numpy.array(samples["forces"], float), numpy.asarray(samples["displacements"], float)
        if samples["residual_forces"] is not None:
            forces -= samples["residual_forces"]
        long_range = None
        if samples["charges"] is not None:
            long_range = dipole_constants(crystal, repetitions, *samples["charges"])
            forces -= dipole_forces(long_range, moves)
        return cls(crystal, tuple(int(n) for n in repetitions), moves, forces, long_range)

    @property
    def supercell(self) -> Atoms:
        """The undisplaced supercell, ase.Atoms."""
        crystal = self.crystal
        unit = Atoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
        return unit.repeat(self.repetitions)


def smallest_structures(fitted: "pandas.DataFrame", assignment: "pandas.DataFrame", count: int) -> list[str]:
    """Return the ids of the fitted structures with the smallest supercells.

    Parameters
    ----------
    fitted : records of ``fit_force_constants``
    assignment : records of ``build_symmetry_bases``
    count : at most so many
    """
    solved = fitted.loc[fitted["status"] == "ok", "structure_id"]
    sizes = assignment.set_index("structure_id")["n_supercell_atoms"].reindex(solved)
    return sizes.sort_values(kind="stable").index[:count].tolist()


def compare(
    crystal: Crystal, repetitions: Sequence[int], samples: dict, force_constants: dict, program: str
) -> dict[str, Any]:
    """Fit the second and third order with this project and with another program and compare.

    Parameters
    ----------
    crystal : ``Crystal``
    repetitions : (3,) integers of the supercell
    samples : as ``phonoscreen.stages.refit.fit_task`` takes them
    force_constants : section of the study's settings; cutoffs and shells count
    program : one of ``PROGRAMS``

    Returns
    -------
    dict of ``program, n_supercells, second_cutoff_angstrom`` (NaN for all pairs)``, third_cutoff_angstrom,
    second_relative_difference, third_relative_difference, frequency_difference_max_thz``

    Raises
    ------
    StudyError
        If the program cannot fit this structure.
    """
    problem = Problem.from_samples(crystal, repetitions, samples)
    (second_cutoff, *_), third = OrderSettings.from_section(force_constants).cutoffs(crystal, problem.repetitions)
    if third is None:
        raise StudyError("force constants without a third order are not fitted again", where="independent fit",
                         fix="set force_constants.third_cutoff_angstrom")  # fmt: skip
    third_cutoff = third.value_angstrom
    if program == "hiphive":
        second_cutoff = second_cutoff or _longest_cutoff(problem)
        theirs = fit_with_hiphive(problem, second_cutoff, third_cutoff)
    elif program == "symfc":
        third_cutoff = _cutoff_without_detours(problem, third_cutoff)
        theirs = fit_with_symfc(problem, second_cutoff, third_cutoff)
    else:
        raise StudyError(f"{program!r} is none of {', '.join(PROGRAMS)}", where="independent fit")
    basis = build_basis(crystal, problem.repetitions, (second_cutoff, third_cutoff))
    fitter = ForceConstantFitter(basis, FitSettings(rotational_sum_rules=False))
    parameters = fitter.fit(crystal, problem.displacements, problem.forces).parameters
    own = basis.expand_second(parameters), basis.expand_third(parameters)
    frequencies = [_frequencies_thz(problem, constants) for constants in (own[0], theirs[0])]
    return {
        "program": program,
        "n_supercells": len(problem.forces),
        "second_cutoff_angstrom": float("nan") if second_cutoff is None else float(second_cutoff),
        "third_cutoff_angstrom": float(third_cutoff),
        "second_relative_difference": relative_difference(own[0].values, theirs[0].values),
        "third_relative_difference": relative_difference(*aligned(own[1], theirs[1])),
        "frequency_difference_max_thz": float(numpy.abs(frequencies[0] - frequencies[1]).max()),
    }


def fit_with_hiphive(
    problem: Problem, second_cutoff_angstrom: float, third_cutoff_angstrom: float
) -> tuple[SecondOrder, ThirdOrder]:
    """Least squares by hiphive.

    F. Eriksson, E. Fransson, P. Erhart, Adv. Theory Simul. 2, 1800184 (2019).

    Returns
    -------
    SecondOrder, ThirdOrder
    """
    from hiphive import ClusterSpace, ForceConstantPotential, StructureContainer
    from trainstation import Optimizer

    supercell = problem.supercell
    unit = supercell[: len(problem.crystal.numbers)]
    unit.set_cell(problem.crystal.cell, scale_atoms=False)
    logging.getLogger("hiphive").setLevel(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()):
        space = ClusterSpace(unit, [second_cutoff_angstrom, third_cutoff_angstrom])
        container = StructureContainer(space)
        for moves, forces in zip(problem.displacements, problem.forces, strict=True):
            structure = supercell.copy()
            structure.arrays["displacements"], structure.arrays["forces"] = moves, forces
            container.add_structure(structure)
        optimizer = Optimizer(container.get_fit_data(), train_size=1.0)
        optimizer.train()
        constants = ForceConstantPotential(space, optimizer.parameters).get_force_constants(supercell)
    second, third = from_hiphive(constants, problem.crystal, problem.repetitions)
    if third is None:
        raise StudyError("hiphive gives no third order", where="independent fit", fix="raise the third-order cutoff")
    return second, third


def fit_with_symfc(
    problem: Problem, second_cutoff_angstrom: float | None, third_cutoff_angstrom: float
) -> tuple[SecondOrder, ThirdOrder]:
    """Least squares by symfc.

    A. Seko, A. Togo, Phys. Rev. B 110, 214302 (2024).

    Parameters
    ----------
    second_cutoff_angstrom : None for all pairs of the supercell

    Returns
    -------
    SecondOrder, ThirdOrder

    Raises
    ------
    StudyError
        If symfc finds a smaller primitive cell.
    """
    from symfc import Symfc
    from symfc.utils.utils import SymfcAtoms

    supercell, n_atoms = problem.supercell, len(problem.crystal.numbers)
    cell = SymfcAtoms(cell=supercell.cell[:], scaled_positions=supercell.get_scaled_positions(wrap=False),
                      numbers=supercell.numbers)  # fmt: skip
    cutoffs = {3: third_cutoff_angstrom} | ({2: second_cutoff_angstrom} if second_cutoff_angstrom else {})
    with contextlib.redirect_stdout(io.StringIO()):
        solver = Symfc(cell, cutoff=cutoffs, displacements=problem.displacements, forces=problem.forces, log_level=0)
        solver.run(max_order=3)
    rows = numpy.asarray(solver.p2s_map)
    if sorted(rows % n_atoms) != list(range(n_atoms)):
        raise StudyError("symfc finds a smaller primitive cell", where="independent fit",
                         fix="give the primitive cell")  # fmt: skip
    table, second, third = translation_table(n_atoms, problem.repetitions), [], []
    for atom in range(n_atoms):  # its row belongs to an image in another cell: seen from there
        k = int(numpy.flatnonzero(rows % n_atoms == atom)[0])
        seen = table[rows[k] // n_atoms]
        second.append(solver.force_constants[2][k][seen])
        third.append(solver.force_constants[3][k][seen][:, seen])
    return (SecondOrder(problem.repetitions, numpy.array(second)),
            third_order_of_supercell(numpy.array(third), problem.crystal, problem.repetitions))  # fmt: skip


def relative_difference(own: NDArray, theirs: NDArray) -> float:
    """Return the norm of a difference over the norm of the first."""
    return float(numpy.linalg.norm(own - theirs) / numpy.linalg.norm(own))


def aligned(own: ThirdOrder, theirs: ThirdOrder) -> tuple[NDArray, ...]:
    """Return the values of both on the triplets of either, zero where one lacks a triplet: two (n, 3, 3, 3) arrays."""
    tables = [{(*a, *c): v for a, c, v in zip(x.atoms.tolist(), x.cells.reshape(-1, 6).tolist(), x.values)}
              for x in (own, theirs)]  # fmt: skip
    keys, nothing = list(dict.fromkeys([*tables[0], *tables[1]])), numpy.zeros((3, 3, 3))
    return tuple(numpy.array([table.get(key, nothing) for key in keys]) for table in tables)


def _frequencies_thz(problem, second):
    """Frequencies at the wave vectors of the supercell, the dipole-dipole part put back."""
    if problem.long_range is not None:
        second = SecondOrder(second.repetitions, second.values + problem.long_range.values)
    qpoints, _ = irreducible_mesh(problem.crystal, problem.repetitions)
    return frequencies_thz(DynamicalMatrix(problem.crystal, second), qpoints)


def _longest_cutoff(problem):
    """Return the cutoff in a gap between shells that is the longest hiphive accepts for the supercell, angstrom."""
    from hiphive.cutoffs import estimate_maximum_cutoff

    half = shortest_supercell_vector(problem.crystal.cell, problem.repetitions) / 2
    longest = min(0.999 * half, 0.999 * float(estimate_maximum_cutoff(problem.supercell)))
    return choose_cutoff(problem.crystal, problem.repetitions, longest).value_angstrom


def _cutoff_without_detours(problem, cutoff_angstrom):
    """Return the cutoff, or a shorter one below which no triplet closes around the supercell, angstrom."""
    third = shortest_supercell_vector(problem.crystal.cell, problem.repetitions) / 3
    if cutoff_angstrom < third:
        return cutoff_angstrom
    return choose_cutoff(problem.crystal, problem.repetitions, 0.999 * third).value_angstrom


COLUMNS = (
    "structure_id", "stage", "status", "reason", "source", "program", "n_supercells", "second_cutoff_angstrom",
    "third_cutoff_angstrom", "second_relative_difference", "third_relative_difference", "frequency_difference_max_thz",
)  # fmt: skip


def compare_structures(
    chosen: Iterable[str], forces: "ShardFiles", supercells: "ShardFiles", charges: OwnCharges,
    shells: Mapping[str, int], force_constants: dict,
) -> list[dict]:  # fmt: skip
    """Compare this project's fit of some structures with that of every other program.

    Parameters
    ----------
    chosen : ids of the structures; those without forces are left out
    forces, supercells : ``ShardFiles`` of the labels or predictions, and of the displaced supercells
    charges : of the study, where it has a stage for them
    shells : neighbour shells inside the third-order cutoff of each structure (``third_shell`` of the assignment)
    force_constants : section of the study's settings

    Returns
    -------
    list of records with the values of ``compare``, in the order of the shards
    """
    rows = []
    for structure_id in forces.in_order(chosen):
        data = read_labelled(forces.group(structure_id), supercells.group(structure_id))
        data = charges.put_into(data, structure_id)
        own = {**force_constants, "third_shells": int(shells[structure_id])}
        arguments = (data.crystal, data.repetitions, fit_arguments(data), own)
        for program in PROGRAMS:
            row = attempted(structure_id, "cross_check_force_constants", partial(compare, *arguments, program))
            rows.append({**row, "program": program})
    return rows
