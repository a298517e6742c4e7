"""Command ``phonoscreen fit``: force constants of one crystal from displacements and forces."""

import json
from pathlib import Path

import numpy

from phonoscreen.audit.errors import StudyError


def add_parser(subparsers):
    """Add the command to the main command line."""
    parser = subparsers.add_parser(
        "fit", help="force constants of one crystal from displacements and forces", description=__doc__
    )
    parser.add_argument("structure", help="primitive cell: any file ASE reads, for example POSCAR or CIF")
    parser.add_argument(
        "forces", help="displaced supercells with forces: extended XYZ, or phono3py_params.yaml, also .xz"
    )
    parser.add_argument(
        "--third-cutoff", type=float, default=5.0, metavar="ANGSTROM", help="largest third-order cutoff"
    )
    parser.add_argument("--fourth-cutoff", type=float, metavar="ANGSTROM", help="include the fourth order in the fit")
    parser.add_argument("--method", default="least_squares", help="least_squares, lasso, adaptive_lasso or ardr")
    parser.add_argument("--no-rotational-sum-rules", action="store_true", help="leave Born-Huang and Huang out")
    parser.add_argument("--output", default=".", metavar="FOLDER", help="where the files are written")
    parser.set_defaults(run=run)


def run(arguments):
    """Fit, report as JSON on the standard output, and write the files that ShengBTE, phonopy and phono3py read."""
    from phonoscreen.io.force_constants import write_second_order, write_third_order
    from phonoscreen.io.phonopy import write_second_hdf5, write_third_hdf5
    from phonoscreen.lattice.basis import build_basis
    from phonoscreen.lattice.clusters import check_cutoff, choose_cutoff
    from phonoscreen.lattice.fit import ForceConstantFitter

    crystal, repetitions, displacements, forces = _read(arguments.structure, arguments.forces)
    cutoff = choose_cutoff(crystal, repetitions, arguments.third_cutoff)
    cutoffs = [None, cutoff.value_angstrom]
    if arguments.fourth_cutoff is not None:
        check_cutoff(crystal, repetitions, arguments.fourth_cutoff)
        cutoffs.append(arguments.fourth_cutoff)
    basis = build_basis(crystal, repetitions, cutoffs)
    fitter = ForceConstantFitter(basis, arguments.method, not arguments.no_rotational_sum_rules)
    fitted = fitter.fit(crystal, displacements, forces)
    second, third = basis.expand_second(fitted.parameters), basis.expand_third(fitted.parameters)
    folder = Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    write_second_order(second, folder / "FORCE_CONSTANTS_2ND")
    write_third_order(third, crystal.cell, folder / "FORCE_CONSTANTS_3RD")
    write_second_hdf5(second, folder / "fc2.hdf5")
    write_third_hdf5(third, repetitions, folder / "fc3.hdf5")
    report = {
        "repetitions": " ".join(str(n) for n in repetitions),
        "third_cutoff_angstrom": cutoff.value_angstrom,
        "third_shell": cutoff.shell,
        **fitted.quality,
    }
    report = {key: None if value != value else value for key, value in report.items()}
    print(json.dumps(report, indent=2))
    return 0


def _read(structure, forces):
    """Crystal, repetitions, displacements and forces in the order of ``ase.Atoms.repeat``."""
    from phonoscreen.io.phonopy import read_displacements
    from phonoscreen.lattice.constants import Crystal

    crystal = Crystal.from_ase(_atoms(structure))
    if str(forces).endswith((".yaml", ".yaml.xz")):
        own, repetitions, displacements, values = read_displacements(forces)
        same = own.cell.shape == crystal.cell.shape and numpy.allclose(own.cell, crystal.cell, atol=1e-4)
        if not same or not numpy.array_equal(own.numbers, crystal.numbers):
            raise StudyError(
                f"{structure} is not the unit cell of {forces}",
                fix="give the cell that phono3py's file calls unit_cell",
            )
        return crystal, repetitions, displacements, values
    return crystal, *_from_snapshots(crystal, _atoms(forces, index=":"), forces)


def _atoms(path, index=None):
    """What ASE reads from a file."""
    from ase.io import read
    from ase.io.formats import UnknownFileTypeError

    try:
        return read(path, index=index)
    except (OSError, UnknownFileTypeError, ValueError, KeyError, IndexError) as error:
        raise StudyError(
            f"{path} cannot be read: {error or type(error).__name__}",
            fix="give a file of a kind ASE knows, named so that it is recognised: POSCAR, *.cif, *.extxyz",
        ) from error


def _from_snapshots(crystal, snapshots, path):
    """Repetitions, displacements and forces of ``ase.Atoms`` with forces."""
    from phonoscreen.lattice.supercell import supercell_cells, supercell_order

    ratio = numpy.array(snapshots[0].cell) @ numpy.linalg.inv(crystal.cell)
    repetitions = tuple(int(n) for n in numpy.rint(ratio.diagonal()))
    if min(repetitions) < 1 or not numpy.allclose(ratio, numpy.diag(repetitions), atol=1e-3):
        raise StudyError(
            f"the supercell of {path} is not the crystal repeated along its own vectors",
            fix="give the primitive cell that was repeated, in the same orientation",
        )
    perfect = (supercell_cells(repetitions)[:, None] + crystal.scaled_positions).reshape(-1, 3) @ crystal.cell
    displacements, forces = [], []
    for atoms in snapshots:
        if atoms.calc is None or "forces" not in atoms.calc.results:
            raise StudyError(f"a supercell of {path} has no forces", fix="write extended XYZ with forces")
        order = supercell_order(crystal, repetitions, atoms.cell, atoms.positions, atoms.numbers)
        scaled = (atoms.positions[order] - perfect) @ numpy.linalg.inv(atoms.cell)
        displacements.append((scaled - numpy.rint(scaled)) @ numpy.array(atoms.cell))
        forces.append(atoms.get_forces()[order])
    return repetitions, numpy.array(displacements), numpy.array(forces)
