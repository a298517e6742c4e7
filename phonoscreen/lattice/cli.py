"""Command ``phonoscreen fit``: force constants of one crystal from displacements and forces."""

import argparse
import json
from pathlib import Path

from phonoscreen.audit.errors import StudyError


def add_parser(subparsers):
    """Add the command to the main command line."""
    parser = subparsers.add_parser(
        "fit", help="force constants of one crystal from displacements and forces", description=__doc__
    )
    parser.add_argument(
        "structure", help="crystal that was repeated, primitive or not: any file ASE reads, for example POSCAR or CIF"
    )
    parser.add_argument(
        "forces",
        help="displaced supercells with forces: extended XYZ, a params or disp YAML file of phonopy or phono3py, also "
        ".xz, or FORCE_SETS",
    )
    parser.add_argument(
        "--supercell", type=int, nargs="+", metavar="N", help="supercell matrix of FORCE_SETS: 3 or 9 integers (DIM)"
    )
    parser.add_argument("--born", metavar="FILE", help="BORN file: Born charges and dielectric tensor")
    parser.add_argument(
        "--third-cutoff", type=float, default=5.0, metavar="ANGSTROM", help="largest third-order cutoff; 0: none"
    )
    parser.add_argument("--third-shells", type=int, metavar="N", help="third-order cutoff behind this neighbour shell")
    parser.add_argument("--fourth-cutoff", type=float, metavar="ANGSTROM", help="include the fourth order in the fit")
    parser.add_argument("--second-cutoff", type=float, metavar="ANGSTROM", help="instead of all pairs of the supercell")
    parser.add_argument(
        "--method", default="least_squares", metavar="NAME[,NAME]",
        help="least_squares, lasso, adaptive_lasso or ardr; several by order, the second first",
    )  # fmt: skip
    parser.add_argument("--in-sequence", action="store_true", help="fit each order to what the lower ones leave")
    parser.add_argument(
        "--rotational-sum-rules", action=argparse.BooleanOptionalAction, default=None,
        help="enforce Born-Huang and Huang; by default unless single atoms are displaced, where phonopy does not",
    )  # fmt: skip
    parser.add_argument("--learning-curve", action="store_true", help="also fit to fewer supercells")
    parser.add_argument(
        "--imaginary-threshold", type=float, default=0.1, metavar="THZ", help="a mode below minus this is imaginary"
    )
    parser.add_argument("--output", default=".", metavar="FOLDER", help="where the files are written")
    parser.set_defaults(run=run)


def run(arguments):
    """Fit, report as JSON on the standard output, and write the files that ShengBTE, phonopy and phono3py read."""
    from phonoscreen.lattice.basis import build_basis
    from phonoscreen.lattice.dipoles import dipole_constants
    from phonoscreen.lattice.finite_displacements import complete_by_symmetry, is_single
    from phonoscreen.lattice.fit import ForceConstantFitter
    from phonoscreen.lattice.learning_curve import learning_curve
    from phonoscreen.lattice.orders import ORDERS
    from phonoscreen.lattice.settings import FitSettings, OrderSettings
    from phonoscreen.lattice.stability import check_stability

    data = _read(arguments)
    crystal, repetitions = data.crystal, data.repetitions
    moves, forces = data.displacements, data.forces
    orders = OrderSettings(
        arguments.third_cutoff, arguments.third_shells, arguments.second_cutoff, arguments.fourth_cutoff
    )
    report = {"repetitions": " ".join(str(n) for n in repetitions)}
    rotational = arguments.rotational_sum_rules
    if is_single(moves):  # holds no third order
        rotational = bool(rotational)
        orders = OrderSettings(0.0, second_cutoff_angstrom=arguments.second_cutoff)
        report["n_single_displacements"] = len(moves)
        moves, forces = complete_by_symmetry(crystal, repetitions, moves, forces)
    cutoffs, third = orders.cutoffs(crystal, repetitions)
    basis = build_basis(crystal, repetitions, cutoffs)
    names = arguments.method.split(",")
    method = names[0] if len(names) == 1 else dict(zip(ORDERS, names))
    settings = FitSettings(method, arguments.in_sequence, True if rotational is None else rotational)
    report["rotational_sum_rules"] = settings.rotational_sum_rules
    fitter = ForceConstantFitter(basis, settings)
    charges = (data.born, data.dielectric) if data.born is not None else None
    fitted = fitter.fit(crystal, moves, forces, charges=charges)
    second = basis.expand_second(fitted.parameters)
    if charges is not None:
        second.values += dipole_constants(crystal, repetitions, *charges).values
    _write(crystal, second, basis.expand_third(fitted.parameters) if third else None, Path(arguments.output))
    verdict = check_stability(crystal, second, arguments.imaginary_threshold, charges=charges)
    if third:
        report |= {"third_cutoff_angstrom": third.value_angstrom, "third_shell": third.shell,
                   "third_cutoff_to_shell_angstrom": third.to_shell_angstrom}  # fmt: skip
    report |= {**fitted.quality, "stable": verdict.stable, **verdict.values}
    if arguments.learning_curve:
        report["learning_curve"] = learning_curve(fitter, crystal, moves, forces, charges=charges)
    print(json.dumps(report, indent=2, default=float).replace("NaN", "null"))
    return 0


def _read(arguments):
    """Displaced supercells from any of the files understood."""
    from phonoscreen.io.displacements import read_born, read_force_sets, read_phonopy_yaml, read_snapshots
    from phonoscreen.lattice.constants import Crystal
    from phonoscreen.structures.reading import read_crystal

    given, path = Crystal.from_ase(read_crystal(arguments.structure)), arguments.forces
    if str(path).endswith((".yaml", ".yaml.xz")):
        data = read_phonopy_yaml(path)
        _check_same(given, data, arguments)
    elif "FORCE_SETS" in Path(path).name:
        if arguments.supercell is None or len(arguments.supercell) not in (3, 9):
            raise StudyError("FORCE_SETS does not say its supercell", fix="give --supercell with phonopy's DIM")
        matrix = arguments.supercell
        data = read_force_sets(path, given, matrix if len(matrix) == 3 else [matrix[:3], matrix[3:6], matrix[6:]])
    else:
        data = read_snapshots(path, given, _atoms(path, index=":"))
    if arguments.born:
        data.born, data.dielectric = read_born(arguments.born, data.crystal, given)
    return data


def _check_same(given, data, arguments):
    """The structure must be the crystal of the YAML file."""
    from phonoscreen.lattice.primitive import repeated_primitive
    from phonoscreen.lattice.supercell import supercell_order

    try:
        crystal, repetitions = repeated_primitive(given, data.crystal.cell)
        supercell_order(crystal, repetitions, data.crystal.cell, data.crystal.scaled_positions @ data.crystal.cell,
                        data.crystal.numbers)  # fmt: skip
    except StudyError as error:
        raise StudyError(
            f"{arguments.structure} is not the crystal of {arguments.forces}: {error.what}",
            fix="give the cell that the YAML file calls unit_cell",
        ) from error


def _write(crystal, second, third, folder):
    """Primitive cell and force constants in the formats of other programs."""
    from ase import Atoms
    from ase.io import write

    from phonoscreen.io.force_constants import write_second_order, write_third_order
    from phonoscreen.io.phonopy import write_second_hdf5, write_third_hdf5

    folder.mkdir(parents=True, exist_ok=True)
    cell = Atoms(numbers=crystal.numbers, cell=crystal.cell, scaled_positions=crystal.scaled_positions, pbc=True)
    write(folder / "POSCAR", cell, format="vasp", direct=True)
    write_second_order(second, folder / "FORCE_CONSTANTS_2ND")
    write_second_hdf5(second, folder / "fc2.hdf5")
    if third is not None:
        write_third_order(third, crystal.cell, folder / "FORCE_CONSTANTS_3RD")
        write_third_hdf5(third, second.repetitions, folder / "fc3.hdf5")


def _atoms(path, index=None):
    """What ASE reads from a file."""
    from ase.io import read

    try:
        return read(path, index=index)
    except Exception as error:  # readers of foreign files raise anything
        raise StudyError(
            f"{path} cannot be read: {error or type(error).__name__}",
            fix="give a file of a kind ASE knows, named so that it is recognised: POSCAR, *.cif, *.extxyz",
        ) from error
