"""A folder of ShengBTE's, phono3py's or this program's input files as one problem for the solver."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal, SecondOrder, ThirdOrder
from phonoscreen.crystal.masses import describe_masses, mass_doubts
from phonoscreen.crystal.mesh import automatic_mesh
from phonoscreen.crystal.sizes import check_size
from phonoscreen.crystal.symmetry import PHONOPY_TOLERANCE_ANGSTROM, higher_space_group, space_group
from phonoscreen.force_constants.basis import build_basis
from phonoscreen.force_constants.fit_matrix import FitMatrix
from phonoscreen.force_constants.invariance import check_invariance
from phonoscreen.force_constants.label_checks import check_labels
from phonoscreen.force_constants.stiffness import UNITS_OF_CONSTANTS, check_stiffness
from phonoscreen.formats.displacements import displaced_supercells
from phonoscreen.formats.finite_differences import check_forces_of_third_order, in_cell_of, judged_by_forces
from phonoscreen.formats.phonopy_data import has_forces
from phonoscreen.phonons.dipoles import check_charges
from phonoscreen.phonons.dynamical_matrix import LatticeSum
from phonoscreen.phonons.long_range import EwaldCorrection, GonzeCorrection, WangCorrection
from phonoscreen.phonons.translation import doubts_of_constants
from phonoscreen.transport.isotopes import isotope_doubts
from phonoscreen.transport.nanowires import Nanowires
from phonoscreen.transport.solve import Settings, check_crystal

MESH_DENSITY_ANGSTROM = 60.0
_NOT_BESIDE_CONTROL = ("phono3py*.yaml*", "fc[23].hdf5*", "BORN*")


@dataclass
class Problem:
    """What a folder asks for.

    Attributes
    ----------
    crystal : Crystal
    second : SecondOrder or LatticeSum
    third : ThirdOrder, or None for harmonic properties only
    mesh : (3,) integers
    settings : Settings
    correction : function of (crystal, constants) that returns the long-range correction, or None
    mean_free_paths_nm : ticks of the cumulative conductivity
    n_ticks : number of frequency ticks
    nanowires : ``Nanowires`` whose conductivity is asked for too, or None
    choices : what was read and chosen, one line each
    warnings : what the folder holds that has no effect, one sentence each
    """

    crystal: Crystal
    second: SecondOrder | LatticeSum
    third: ThirdOrder | None
    mesh: tuple
    settings: Settings
    correction: Callable[..., Any] | None = None
    mean_free_paths_nm: numpy.ndarray = field(default_factory=lambda: numpy.geomspace(0.01, 1e6, 100))
    n_ticks: int = 100
    nanowires: Nanowires | None = None
    choices: list = field(default_factory=list)
    warnings: list = field(default_factory=list)


@dataclass
class Request:
    """What the command line asks for instead of what a folder says.

    Attributes
    ----------
    mesh : (3,) integers, or None
    temperatures_k : sequence of kelvin, or None
    scalebroad : factor on the broadening, or None
    isotopes : True, False, or None for the default of the program whose folder it is
    full_solution : False for the relaxation-time approximation only, or None
    supercell : (3,) repetitions of the structure in the second-order constants, for folders that do not say it
    settings : further fields of ``phonoscreen.transport.solve.Settings``
    """

    mesh: tuple | None = None
    temperatures_k: tuple | None = None
    scalebroad: float | None = None
    isotopes: bool | None = None
    full_solution: bool | None = None
    supercell: tuple | None = None
    settings: dict = field(default_factory=dict)


def read_folder(folder: str | Path, request: Request | None = None) -> Problem:
    """Read a folder that holds CONTROL, or one of phono3py's YAML files, or POSCAR with force constants.

    The first of the three that is there is used; what else could have been read is named in ``warnings``.

    Parameters
    ----------
    folder : path
    request : Request

    Returns
    -------
    Problem

    Raises
    ------
    StudyError
        If the folder holds none of them, or the files do not fit together.
    """
    from phonoscreen.formats.phonopy_folder import yaml_files
    from phonoscreen.formats.poscar_folder import holds_structure

    folder, request = Path(folder), request or Request()
    if not folder.is_dir():
        raise StudyError(f"{folder} is no folder", where="transport", fix="name a folder with input files")
    yaml = yaml_files(folder)
    if (folder / "CONTROL").is_file():
        problem = _read_shengbte(folder, request)
        unread = [path for pattern in _NOT_BESIDE_CONTROL for path in folder.glob(pattern)]
        if names := ", ".join(sorted({path.name for path in [*yaml, *unread]})):
            problem.choices.insert(1, f"not read: {names} (CONTROL goes first; move it elsewhere to use the others)")
    elif yaml:
        problem = _read_phono3py(folder, request)
    elif holds_structure(folder):
        problem = _read_structure(folder, request)
    else:
        raise StudyError(
            f"{folder / 'CONTROL'} does not exist, nor does a YAML file of phono3py, nor POSCAR", where="transport",
            fix="name a folder with the input files of ShengBTE or phono3py, or with POSCAR and force constants",
        )  # fmt: skip
    check_crystal(problem.crystal)
    problem.choices.append("symmetry: " + check_invariance(problem.crystal, problem.second, problem.third))
    problem.warnings += doubts_of_constants(problem.crystal, problem.second, problem.third)
    problem.warnings += _hidden_symmetry(problem.crystal)
    problem.warnings += mass_doubts(problem.crystal.numbers, problem.crystal.masses)
    if problem.settings.isotopes and problem.settings.mass_variances is None:
        problem.warnings += isotope_doubts(problem.crystal.numbers, problem.crystal.masses)
    problem.choices.append("masses: " + describe_masses(problem.crystal.numbers, problem.crystal.masses))
    return problem


def _hidden_symmetry(crystal):
    """Return a sentence on a higher space group that coordinates with few digits hide, in a list, or an empty list."""
    higher = higher_space_group(crystal, PHONOPY_TOLERANCE_ANGSTROM)
    if higher is None:
        return []
    return [f"the space group is {space_group(crystal, PHONOPY_TOLERANCE_ANGSTROM).symbol} and would be "
            f"{higher.symbol} within {higher.tolerance_angstrom:g} angstrom: if the coordinates are only rounded, "
            "frequencies and conductivity suffer; give them with more digits"]  # fmt: skip


def _check_unit(crystal, second, path):
    """Refuse second-order constants whose size is that of another unit than eV/angstrom^2."""
    if isinstance(second, SecondOrder):
        own = second.values[:, : len(second.values)]
    else:
        own = second.values[(second.cells == 0).all(axis=1)][0]
    check_stiffness(crystal, numpy.einsum("iixx->i", own) / 3, "the force constants", UNITS_OF_CONSTANTS,
                    "give second-order force constants in eV/angstrom^2, third-order ones in eV/angstrom^3",
                    where=str(path))  # fmt: skip


def _read_shengbte(folder, request):
    from phonoscreen.formats.control import read_control
    from phonoscreen.formats.shengbte import read_force_constants

    control = read_control(folder / "CONTROL", mesh=request.mesh, memory_gib=_memory(request))
    second, third, alat = read_force_constants(folder, control)
    if alat is None:  # those of q2r.x lack the dipoles, and their unit is part of the format
        _check_unit(control.crystal, second, folder)
    settings = _settings(
        request, temperatures_k=control.temperatures_k, scalebroad=control.scalebroad,
        isotopes=control.flags["isotopes"], mass_variances=control.mass_variances,
        full_solution=control.flags["convergence"], iterations_max=control.iterations_max,
        tolerance=control.tolerance, omega_max=control.omega_max,
    )  # fmt: skip
    correction, kind = None, "none"
    born: Any = control.born  # both are there where nonanalytic is on
    epsilon: Any = control.epsilon
    if control.flags["nonanalytic"] and alat is not None:
        kind = "Ewald sum of Quantum ESPRESSO"
        if settings.degeneracy == "shengbte":  # it takes the first lattice vector whatever the file's celldm(1)
            alat = float(numpy.linalg.norm(control.crystal.cell[0]))
        charges = born.transpose(0, 2, 1)  # with espresso, ShengBTE takes the field as the second index

        def correction(crystal, constants):
            return EwaldCorrection(crystal, charges, epsilon, (2 * numpy.pi / alat) ** 2)
    elif control.flags["nonanalytic"]:
        kind = "Wang (ShengBTE's)"

        def correction(crystal, constants):
            return WangCorrection(crystal, constants, born, epsilon)

    if control.omega_max is not None:
        control.notes.append(f"omega_max = {control.omega_max:g} rad/ps: modes above it have no three-phonon processes "
                             "of their own, as in ShengBTE; this is no physical conductivity")  # fmt: skip
    choices = ["input: CONTROL (ShengBTE)", _mesh_line(control.mesh, request, "ngrid of CONTROL"),
               _isotope_line(settings, request, "CONTROL"), f"long-range forces: {kind}"]  # fmt: skip
    return Problem(control.crystal, second, third, control.mesh, settings, correction, control.mean_free_paths_nm,
                   control.n_ticks, control.nanowires, choices, control.notes)  # fmt: skip


def _read_structure(folder, request):
    from phonoscreen.formats.poscar_folder import read_poscar_folder

    crystal, second, third, charges, notes = read_poscar_folder(folder, request.supercell)
    _check_unit(crystal, second, folder)
    return _problem(crystal, second, third, charges, request, [f"input: {'; '.join(notes)}"])


def _problem(crystal, second, third, charges, request, choices):
    """Problem of a folder that gives no mesh, temperature or settings: phono3py's defaults."""
    mesh = tuple(request.mesh or automatic_mesh(crystal, MESH_DENSITY_ANGSTROM))
    settings = _settings(request, temperatures_k=(300.0,), isotopes=False)
    check_size(len(crystal.numbers), mesh, n_temperatures=len(settings.temperatures_k), memory_gib=_memory(request),
               where=choices[0])  # fmt: skip
    correction = None
    if charges is not None:
        born, epsilon = charges
        check_charges(crystal, born, epsilon, where=choices[0])

        def correction(crystal, constants):
            return GonzeCorrection(crystal, constants, born, epsilon)

    choices += [_mesh_line(mesh, request, "automatic"), _isotope_line(settings, request, "default, as in phono3py"),
                f"long-range forces: {'none' if charges is None else 'Gonze and Lee (phonopy’s)'}"]  # fmt: skip
    return Problem(crystal, second, third, mesh, settings, correction, choices=choices)


def _settings(request, **of_folder):
    """Settings of a folder, with what the request gives instead."""
    asked = {"temperatures_k": request.temperatures_k, "scalebroad": request.scalebroad,
             "isotopes": request.isotopes, "full_solution": request.full_solution}  # fmt: skip
    given = {name: value for name, value in asked.items() if value is not None}
    return Settings(**of_folder | given | request.settings)


def _memory(request):
    return request.settings.get("memory_gib", Settings.memory_gib)


def _mesh_line(mesh, request, otherwise):
    return f"mesh: {' x '.join(str(n) for n in mesh)} ({'--grid' if request.mesh else otherwise})"


def _isotope_line(settings, request, otherwise):
    state = "on" if settings.isotopes else "off"
    return f"isotope scattering: {state} ({otherwise if request.isotopes is None else 'command line'})"


def _read_phono3py(folder, request):
    from phonoscreen.formats.phono3py import from_phono3py
    from phonoscreen.formats.phono3py_constants import load_phono3py

    program, chosen = load_phono3py([folder])
    crystal, second, third = from_phono3py(program)
    _check_unit(crystal, second, folder)
    if has_forces(chosen.file.dataset):
        _check_forces(program, chosen, crystal, third)
    charges = program.nac_params
    if charges is not None:
        charges = charges["born"], charges["dielectric"]
    return _problem(crystal, second, third, charges, request, [f"input: {', '.join(chosen.used)} (phono3py)"])


def _check_forces(program, chosen, crystal, third):
    """Refuse forces that are not those of their displacements, in other units, or of another order of the atoms."""
    data = displaced_supercells(chosen)
    if "first_atoms" in chosen.file.dataset:
        if data.second_order is None and chosen.file.phonon_supercell_matrix is not None:  # its constants are a file
            check_forces_of_third_order(in_cell_of(third, crystal, data.crystal), data)
        else:
            judged_by_forces(program, data)
        return
    for own in filter(None, (data, data.second_order)):  # all atoms are displaced
        pairs = FitMatrix(build_basis(own.crystal, own.repetitions, (None,)))
        check_labels(own.crystal, own.displacements, own.forces, pairs)
