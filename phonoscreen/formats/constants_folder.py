"""The folder that ``fit`` writes: one crystal and its force constants, for ShengBTE, phonopy, phono3py and ``bte``."""

import json
import re
from pathlib import Path

import numpy
from ase import Atoms
from ase.io import write
from numpy.typing import NDArray

from phonoscreen.audit.atomic import written_together
from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal, SecondOrder, ThirdOrder
from phonoscreen.crystal.mesh import automatic_mesh
from phonoscreen.formats.born import phonopy_atoms
from phonoscreen.formats.bte_folder import MESH_DENSITY_ANGSTROM
from phonoscreen.formats.force_constants import write_second_order, write_third_order
from phonoscreen.formats.phonopy import write_second_hdf5, write_third_hdf5
from phonoscreen.formats.shengbte import write_control

FILES = ("POSCAR", "CONTROL", "FORCE_CONSTANTS_2ND", "FORCE_CONSTANTS_3RD", "fc2.hdf5", "fc3.hdf5", "phono3py.yaml",
         "BORN")  # fmt: skip

REPORT = "fit.json"
"""The report, with the names of the files written: what of an earlier run may be replaced."""

LARGEST_HDF5_BYTES = 2**32


def check_folder(folder: str | Path, third: bool, born: bool, inputs: list) -> None:
    """Refuse an output folder in which files would be overwritten or mixed.

    Parameters
    ----------
    folder : where the files will be written
    third, born : whether third-order constants and Born charges will be among them
    inputs : files that are read

    Raises
    ------
    StudyError
        If an input would be overwritten, or a file of another run would stay among the new ones.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise StudyError(f"{folder} is a file", fix="name a folder with --output")
    written = {name for name in FILES if (third or name not in ("FORCE_CONSTANTS_3RD", "fc3.hdf5", "phono3py.yaml"))
               and (born or name != "BORN")}  # fmt: skip
    read = {Path(path).resolve() for path in inputs if path is not None}
    for name in written:
        if (folder / name).resolve() in read:
            raise StudyError(
                f"{folder / name} is read, and would be overwritten", fix="name another folder with --output"
            )
    left = sorted(_left_over(folder, written) - _written_before(folder))
    if left:
        raise StudyError(f"{folder} holds {', '.join(left)}, which would stay among the new files and are not theirs",
                         fix="name another folder with --output, or remove them")  # fmt: skip


def _left_over(folder, written):
    """Files of the kinds written here that are in a folder and will not be replaced."""
    return {name for name in FILES if name not in written and (folder / name).exists()}


def _written_before(folder):
    """Files that an earlier run says it wrote."""
    try:
        names = json.loads((folder / REPORT).read_text())["files_written"]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return set(FILES) & {name for name in names if isinstance(name, str)}


def write_constants(
    crystal: Crystal,
    second: SecondOrder,
    third: ThirdOrder | None,
    folder: str | Path,
    report: dict,
    third_repetitions: tuple | None = None,
    charges: tuple[NDArray, NDArray] | None = None,
) -> str:
    """Write all files or none: they are made beside the folder and moved there together.

    Files of an earlier run that are not written again are removed.

    Parameters
    ----------
    crystal : ``Crystal``, primitive
    second, third : ``SecondOrder``, ``ThirdOrder`` or None
    folder : made if it does not exist
    report : what is said about the constants, written as ``fit.json``
    third_repetitions : (3,) supercell of fc3.hdf5; by default that of the second order
    charges : Born charges (n_atoms, 3, 3) and dielectric tensor (3, 3), or None

    Returns
    -------
    the report as JSON, with the names of the files
    """
    folder = Path(folder)
    with written_together(folder) as made:
        _write(crystal, second, third, made, tuple(third_repetitions or second.repetitions), charges)
        names = sorted(path.name for path in made.iterdir())
        text = json.dumps({**report, "files_written": names}, indent=2, default=_plain)
        text = re.sub(r"(?<=[\s\[])-?(NaN|Infinity)(?=[,\s\]])", "null", text)  # JSON has no such numbers
        (made / REPORT).write_text(text + "\n")
        old = _left_over(folder, set(names)) & _written_before(folder)
    for name in old:
        (folder / name).unlink()
    return text


def _plain(value):
    """Numbers and arrays of numpy as JSON has them."""
    return value.tolist() if hasattr(value, "tolist") else float(value)


def _write(crystal, second, third, folder, third_repetitions, charges):
    born, epsilon = charges or (None, None)
    cell = Atoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    write(folder / "POSCAR", cell, format="vasp", direct=True)
    mesh = automatic_mesh(crystal, MESH_DENSITY_ANGSTROM)
    write_control(crystal, folder / "CONTROL", repetitions=second.repetitions, mesh=mesh, born=born, epsilon=epsilon,
                  onlyharmonic=third is None)  # fmt: skip
    write_second_order(second, folder / "FORCE_CONSTANTS_2ND")
    write_second_hdf5(second, folder / "fc2.hdf5")
    if charges is not None:
        from phonopy.file_IO import write_BORN

        write_BORN(phonopy_atoms(crystal), charges[0], charges[1], filename=folder / "BORN")
    if third is None:
        return
    write_third_order(third, crystal.cell, folder / "FORCE_CONSTANTS_3RD")
    n_super = len(crystal.numbers) * int(numpy.prod(third_repetitions))
    if 216 * len(crystal.numbers) * n_super**2 <= LARGEST_HDF5_BYTES:
        write_third_hdf5(third, third_repetitions, folder / "fc3.hdf5")
        _write_yaml(crystal, second.repetitions, third_repetitions, folder / "phono3py.yaml")


def _write_yaml(crystal, repetitions, third_repetitions, path):
    """phono3py.yaml, which says the supercells of fc2.hdf5 and fc3.hdf5."""
    from phono3py import Phono3py

    same = tuple(repetitions) == tuple(third_repetitions)
    program = Phono3py(
        phonopy_atoms(crystal), numpy.diag(third_repetitions), primitive_matrix=numpy.eye(3), log_level=0,
        phonon_supercell_matrix=None if same else numpy.diag(repetitions),
    )  # fmt: skip
    program.save(path, settings={"force_sets": False, "displacements": False})
