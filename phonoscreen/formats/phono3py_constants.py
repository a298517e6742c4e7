"""Force constants of folders of phono3py: read, or calculated from displacements and forces as phono3py does.

A. Togo, L. Chaput, T. Tadano, I. Tanaka, J. Phys.: Condens. Matter 35, 353001 (2023). Finite differences of single and
pair displacements, made symmetric by symfc's projector, are phono3py's own; forces on supercells in which all atoms are
displaced go to symfc (A. Seko, A. Togo, Phys. Rev. B 110, 214302 (2024)).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.units import COULOMB
from phonoscreen.formats.born import check_factor, phonopy_crystal, read_born
from phonoscreen.formats.compressed import plain_file
from phonoscreen.formats.foreign import foreign
from phonoscreen.formats.phonopy import read_array
from phonoscreen.formats.phonopy_data import constants_shape, has_forces
from phonoscreen.formats.phonopy_folder import PhonopyFolder, choose_files
from phonoscreen.phonons.dipoles import check_tensors

if TYPE_CHECKING:
    from phono3py import Phono3py
    from phonopy.structure.cells import Primitive

    from phonoscreen.formats.phonopy_yaml import PhonopyFile


def load_phono3py(paths: list, tolerance_angstrom: float | None = None) -> tuple:
    """Return a ``phono3py.Phono3py`` object with force constants, from a folder as phono3py leaves or wants it.

    Parameters
    ----------
    paths : a folder, or the files themselves, as for ``choose_files``
    tolerance_angstrom : of symmetry; by default that of the YAML file, else phono3py's 1e-5

    Returns
    -------
    program : ``phono3py.Phono3py`` with ``fc2``, ``fc3`` and, if known, ``nac_params``
    chosen : ``PhonopyFolder``, the files read

    Raises
    ------
    StudyError
        If the files are damaged or do not fit together.
    """
    chosen = choose_files(paths, constants=True)
    program = build_phono3py(chosen, tolerance_angstrom)
    if chosen.third_constants is not None:
        program.fc3 = _constants(chosen.third_constants, program.primitive)
    if chosen.second_constants is not None:
        program.fc2 = _constants(chosen.second_constants, program.phonon_primitive)
    calculate_constants(program, str(chosen.file.path))
    return program, chosen


def build_phono3py(chosen: PhonopyFolder, tolerance_angstrom: float | None = None) -> Phono3py:
    """Return the ``phono3py.Phono3py`` object of a YAML file, with its datasets and charges, without force constants.

    A file without primitive matrix gets the one that phono3py guesses ("auto"), or none if the force constants beside
    it have rows for all atoms of the unit cell.
    """
    from phono3py import Phono3py

    file = chosen.file
    fix = "give a YAML file as phono3py writes it"
    primitive = file.primitive_matrix
    rows = {constants_shape(path)[0] for path in (chosen.second_constants, chosen.third_constants) if path is not None}
    with foreign(f"{file.path} cannot be used", fix):
        for matrix in (primitive, "P") if isinstance(primitive, str) else (primitive,):
            program = Phono3py(
                file.unit_cell, file.supercell_matrix, primitive_matrix=matrix,
                phonon_supercell_matrix=file.phonon_supercell_matrix,
                symprec=tolerance_angstrom or file.tolerance_angstrom, log_level=0,
            )  # fmt: skip
            if not rows or len(program.primitive) in rows:
                break
        if file.dataset is not None:
            program.dataset = file.dataset
        if file.phonon_dataset is not None and file.phonon_supercell_matrix is not None:
            program.phonon_dataset = file.phonon_dataset
        program.nac_params = charges_of(file, chosen.born, program.primitive)
    return program


def charges_of(file: PhonopyFile, born: Path | None, primitive: Primitive) -> dict | None:
    """Born charges and dielectric tensor of phonopy's primitive cell, from BORN or the YAML file.

    Parameters
    ----------
    file : ``PhonopyFile``
    born : path of a BORN file, or None
    primitive : ``phonopy.structure.cells.Primitive``

    Raises
    ------
    StudyError
        If either is not for this cell, or the two disagree.
    """
    own = file.nac_params
    if own is not None:
        check_factor(own.get("factor") or COULOMB, file.nac_factor, str(file.path))
        own = {"born": numpy.array(own["born"], float), "dielectric": numpy.array(own["dielectric"], float)}
        if own["born"].shape != (len(primitive), 3, 3) or own["dielectric"].shape != (3, 3):
            raise StudyError(f"{file.path}: Born charges of shape {own['born'].shape} for {len(primitive)} atoms",
                             fix="write the charges of the primitive cell's atoms")  # fmt: skip
        check_tensors(own["born"], own["dielectric"], where=str(file.path))
    if born is not None:
        charges, dielectric = read_born(born, phonopy_crystal(primitive), tolerance_angstrom=file.tolerance_angstrom,
                                        nac_factor=file.nac_factor)  # fmt: skip
        if own is not None:
            off = max(numpy.abs(own["born"] - charges).max(), numpy.abs(own["dielectric"] - dielectric).max())
            if off > 0.02 * numpy.abs(charges).max():
                raise StudyError(
                    f"{born} and {file.path} hold different Born charges or dielectric tensors (by {off:.3g})",
                    fix="leave the ones that are meant",
                )
        own = {"born": charges, "dielectric": dielectric}
    return None if own is None else own | {"factor": COULOMB}


def calculate_constants(program: Phono3py, where: str, third: bool = True) -> None:
    """Calculate the force constants that the object lacks from its displacements and forces.

    Parameters
    ----------
    program : ``phono3py.Phono3py``
    where : name of its file, for messages
    third : also the third order

    Raises
    ------
    StudyError
        If the displacements do not determine them.
    """
    own = program.phonon_supercell_matrix is not None
    second = program.phonon_dataset if own else program.dataset
    with foreign(f"the force constants of {where} cannot be calculated", "displace as phono3py proposes"):
        if third and program.fc3 is None and has_forces(program.dataset):
            before, solver = program.fc2, _solver(program.dataset)
            program.produce_fc3(fc_calculator=solver)
            if solver is None:
                program.symmetrize_fc3(use_symfc_projector=True)
            if not own and before is not None:
                program.fc2 = before  # read from a file, and not to be replaced
            elif not own and solver is None:
                program.symmetrize_fc2(use_symfc_projector=True)
        if program.fc2 is None and has_forces(second):
            solver = _solver(second)
            program.produce_fc2(fc_calculator=solver)
            if solver is None:
                program.symmetrize_fc2(use_symfc_projector=True)
    wanted = {"fc2": program.fc2, "fc3": program.fc3} if third else {"fc2": program.fc2}
    if any(values is None for values in wanted.values()):
        raise StudyError(f"no force constants beside {where}", where="transport",
                         fix="put fc2.hdf5 and fc3.hdf5 there, or FORCES_FC3, or forces in the YAML file")  # fmt: skip
    for name, values in wanted.items():
        if not numpy.isfinite(values).all():
            raise StudyError(
                f"{name} of {where} holds values that are not finite", fix="check displacements and forces"
            )


def _solver(dataset: dict) -> str | None:
    """Finite differences (None) for single atoms and pairs, symfc for supercells with all atoms displaced."""
    return None if "first_atoms" in dataset else "symfc"


def _constants(path: Path, primitive: Primitive) -> numpy.ndarray:
    """Force constants from ``fc2.hdf5`` or ``fc3.hdf5``, whose rows belong to the atoms of a primitive cell."""
    with plain_file(path) as plain:
        third = len(constants_shape(plain)) == 6
        values, rows = read_array(plain, ("fc3",) if third else ("force_constants", "fc2"), 3 if third else 2)
    values, shape = numpy.ascontiguousarray(values), values.shape
    if shape[0] == shape[1]:
        return values
    if shape[0] != len(primitive) or (rows is not None and not numpy.array_equal(rows, primitive.p2s_map)):
        raise StudyError(
            f"{path} has rows for {shape[0]} atoms ({'unknown' if rows is None else rows.tolist()} of the supercell), "
            f"the primitive cell has {len(primitive)} ({numpy.asarray(primitive.p2s_map).tolist()})",
            fix="write the full array (phono3py --full-fc), or give the YAML file of the same run",
        )
    return values
