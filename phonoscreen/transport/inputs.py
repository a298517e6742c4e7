"""A folder of ShengBTE's or phono3py's input files as one problem for the solver."""

from dataclasses import dataclass
from pathlib import Path

import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.lattice.constants import Crystal, SecondOrder, ThirdOrder
from phonoscreen.transport.harmonic import LatticeSum
from phonoscreen.transport.mesh import automatic_mesh
from phonoscreen.transport.nonanalytic import EwaldCorrection, GonzeCorrection, WangCorrection
from phonoscreen.transport.solve import Settings

MESH_DENSITY_ANGSTROM = 60.0


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
    """

    crystal: Crystal
    second: SecondOrder | LatticeSum
    third: ThirdOrder | None
    mesh: tuple
    settings: Settings
    correction: object = None
    mean_free_paths_nm: numpy.ndarray = None
    n_ticks: int = 100


def read_folder(folder, *, mesh=None, temperatures_k=None, scalebroad=None, **settings):
    """Read a folder that holds CONTROL, or else one of phono3py's YAML files.

    Parameters
    ----------
    folder : path
    mesh, temperatures_k, scalebroad : instead of those of CONTROL; phono3py's files hold none (default: automatic mesh,
        300 K, 1.0)
    settings : further fields of ``phonoscreen.transport.solve.Settings``

    Returns
    -------
    Problem

    Raises
    ------
    StudyError
        If the folder holds neither, or the files do not fit together.
    """
    folder = Path(folder)
    if (folder / "CONTROL").is_file():
        return _read_shengbte(folder, mesh, temperatures_k, scalebroad, settings)
    found = sorted(folder.glob("phono3py*.yaml*"))
    if not found:
        raise StudyError(f"{folder / 'CONTROL'} does not exist, nor does phono3py*.yaml", where="transport",
                         fix="name a folder with the input files of ShengBTE or phono3py")  # fmt: skip
    if len(found) > 1:
        raise StudyError(f"{folder} holds {', '.join(path.name for path in found)}", where="transport",
                         fix="leave one phono3py*.yaml in the folder")  # fmt: skip
    return _read_phono3py(found[0], mesh, temperatures_k, scalebroad, settings)


def _read_shengbte(folder, mesh, temperatures_k, scalebroad, settings):
    from phonoscreen.io.shengbte import read_control, read_force_constants

    control = read_control(folder / "CONTROL")
    second, third, alat = read_force_constants(folder, control)
    settings = Settings(
        temperatures_k=tuple(temperatures_k or control.temperatures_k),
        scalebroad=control.scalebroad if scalebroad is None else scalebroad,
        isotopes=control.flags["isotopes"], mass_variances=control.mass_variances,
        full_solution=control.flags["convergence"], iterations_max=control.iterations_max,
        tolerance=control.tolerance, **settings,
    )  # fmt: skip
    correction = None
    if control.flags["nonanalytic"] and alat is not None:
        if settings.degeneracy == "shengbte":  # it takes the first lattice vector whatever the file's celldm(1)
            alat = numpy.linalg.norm(control.crystal.cell[0])
        charges = control.born.transpose(0, 2, 1)  # with espresso, ShengBTE takes the field as the second index

        def correction(crystal, constants):
            return EwaldCorrection(crystal, charges, control.epsilon, (2 * numpy.pi / alat) ** 2)
    elif control.flags["nonanalytic"]:

        def correction(crystal, constants):
            return WangCorrection(crystal, constants, control.born, control.epsilon)

    return Problem(control.crystal, second, third, tuple(mesh or control.mesh), settings, correction,
                   control.mean_free_paths_nm, control.n_ticks)  # fmt: skip


def _read_phono3py(path, mesh, temperatures_k, scalebroad, settings):
    import phono3py

    from phonoscreen.io.phono3py import from_phono3py

    beside = {"fc3_filename": "fc3.hdf5", "fc2_filename": "fc2.hdf5", "born_filename": "BORN",
              "forces_fc3_filename": "FORCES_FC3", "forces_fc2_filename": "FORCES_FC2"}  # fmt: skip
    files = {option: path.parent / name for option, name in beside.items() if (path.parent / name).is_file()}
    try:
        program = phono3py.load(path, log_level=0, fc_calculator="symfc", **files)
    except (RuntimeError, ValueError, KeyError, TypeError, OSError) as error:
        raise StudyError(
            f"{path} cannot be read by phono3py: {error}", where="transport",
            fix="give a YAML file of phono3py with force constants or forces beside it",
        ) from error  # fmt: skip
    if program.fc2 is None or program.fc3 is None:
        raise StudyError(f"no force constants beside {path}", where="transport",
                         fix="put fc2.hdf5 and fc3.hdf5 there, or FORCES_FC3, or forces in the YAML file")  # fmt: skip
    crystal, second, third = from_phono3py(program)
    settings = Settings(temperatures_k=tuple(temperatures_k or (300.0,)),
                        scalebroad=1.0 if scalebroad is None else scalebroad, **settings)  # fmt: skip
    correction, charges = None, program.nac_params
    if charges is not None:

        def correction(crystal, constants):
            return GonzeCorrection(crystal, constants, charges["born"], charges["dielectric"])

    return Problem(crystal, second, third, tuple(mesh or automatic_mesh(crystal, MESH_DENSITY_ANGSTROM)), settings,
                   correction, numpy.geomspace(0.01, 1e6, 100))  # fmt: skip
