"""Command ``phonoscreen export``: one structure of a study as input files of ShengBTE and phono3py."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.names import file_name

if TYPE_CHECKING:
    from phonoscreen.crystal.constants import Crystal, SecondOrder, ThirdOrder


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to an ``argparse`` object made by ``add_subparsers``."""
    parser = subparsers.add_parser(
        "export", help="one structure of a study as input of ShengBTE and phono3py", description=__doc__
    )
    parser.add_argument("structure_id", help="id in the manifest of the study")
    parser.add_argument("--source", choices=("reference", "predicted"), default="reference", help="kind of forces")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the study's results")
    parser.add_argument("--out", type=Path, help="folder to write (default: the id)")
    parser.add_argument("--grid", type=int, nargs=3, metavar="N", help="q mesh (default: automatic)")
    parser.add_argument("--temperature", type=float, default=300.0, metavar="K")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write CONTROL, FORCE_CONSTANTS_2ND, FORCE_CONSTANTS_3RD, phono3py.yaml, fc2.hdf5 and fc3.hdf5."""
    from phonoscreen.crystal.masses import describe_masses
    from phonoscreen.crystal.mesh import automatic_mesh
    from phonoscreen.formats.bte_files import together
    from phonoscreen.formats.bte_folder import MESH_DENSITY_ANGSTROM
    from phonoscreen.formats.phono3py import to_phono3py
    from phonoscreen.formats.phonopy import write_second_hdf5, write_third_hdf5
    from phonoscreen.formats.shengbte import write_directory
    from phonoscreen.transport.isotopes import isotope_doubts

    crystal, second, third, charges = read_study(arguments.results, arguments.structure_id, arguments.source)
    folder = arguments.out or Path(file_name(arguments.structure_id))
    mesh = arguments.grid or automatic_mesh(crystal, MESH_DENSITY_ANGSTROM)
    born, epsilon = charges or (None, None)
    if not 0 < arguments.temperature < float("inf") or min(mesh) < 1:
        raise StudyError(f"--temperature {arguments.temperature:g} or --grid {mesh} is not above 0",
                         fix="give a temperature in kelvin and three counts")  # fmt: skip
    with together(folder) as staging:
        write_directory(crystal, second, third, staging, mesh=mesh, temperature_k=arguments.temperature, born=born,
                        epsilon=epsilon)  # fmt: skip
        to_phono3py(crystal, second, third).save(staging / "phono3py.yaml")
        write_second_hdf5(second, staging / "fc2.hdf5")
        write_third_hdf5(third, second.repetitions, staging / "fc3.hdf5")
    for line in isotope_doubts(crystal.numbers, crystal.masses):
        print(f"warning: {line}", file=sys.stderr)
    print(f"{folder}: input of ShengBTE and phono3py; masses: {describe_masses(crystal.numbers, crystal.masses)}")
    return 0


def read_study(
    results: Path, structure_id: str, source: str
) -> tuple[Crystal, SecondOrder, ThirdOrder, tuple[NDArray, NDArray] | None]:
    """Return crystal, second- and third-order constants and charges (or None) of one structure of a study.

    Raises
    ------
    StudyError
        If the study does not hold the structure, or its fit failed.
    """
    import h5py

    from phonoscreen.audit.records import read_table
    from phonoscreen.stages.stored_force_constants import StoredForceConstants
    from phonoscreen.structures.store import read_crystal

    manifest = results / "structures/manifest.parquet"
    if not manifest.is_file():
        raise StudyError(f"{manifest} does not exist", fix="name the results of a study with --results")
    rows = read_table(manifest).set_index("structure_id")
    if structure_id not in rows.index:
        raise StudyError(f"{structure_id} is not in {manifest}", fix="look ids up in results/structures")
    shard = str(rows.loc[structure_id, "shard"])
    constants = results / f"force_constants/{source}/{shard}.h5"
    if not constants.is_file():
        raise StudyError(f"{constants} does not exist", fix=f"run snakemake ... {constants}")
    with StoredForceConstants(constants, results / f"bases/{shard}.h5") as store:
        if structure_id not in store:
            raise StudyError(f"{structure_id} has no force constants from {source} forces",
                             fix=f"see its record in {constants.with_suffix('.parquet')}")  # fmt: skip
        with h5py.File(results / f"relaxed/{shard}.h5") as relaxed:
            crystal = read_crystal(relaxed[structure_id])
        second, third = store.second_order(structure_id), store.third_order(structure_id)
        return crystal, second, third, store.charges(structure_id)
