"""Command ``phonoscreen fit``: force constants of one crystal from displacements and forces."""

import argparse
import json
import math
import sys
from pathlib import Path

from phonoscreen.audit.errors import StudyError
from phonoscreen.lattice.options import count, methods, not_negative, positive


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
        "--symmetry-tolerance", type=positive, metavar="ANGSTROM",
        help="largest distance between an atom and its image: 1e-5, phonopy's, for files of phonopy, else 1e-3",
    )  # fmt: skip
    parser.add_argument(
        "--third-cutoff", type=not_negative, metavar="ANGSTROM", help="largest third-order cutoff, 5.0; 0: none"
    )
    parser.add_argument(
        "--third-shells", type=count, metavar="N", help="third-order cutoff behind this neighbour shell"
    )
    parser.add_argument(
        "--fourth-cutoff", type=positive, metavar="ANGSTROM", help="include the fourth order in the fit"
    )
    parser.add_argument(
        "--second-cutoff", type=positive, metavar="ANGSTROM", help="instead of all pairs of the supercell"
    )
    parser.add_argument(
        "--method", type=methods, metavar="NAME[,NAME]",
        help="least_squares, lasso, adaptive_lasso or ardr; several by order, the second first; by default finite "
        "differences where single atoms are displaced, else least_squares",
    )  # fmt: skip
    parser.add_argument("--in-sequence", action="store_true", help="fit each order to what the lower ones leave")
    parser.add_argument(
        "--rotational-sum-rules", action=argparse.BooleanOptionalAction, default=None,
        help="insist on Born-Huang and Huang, or leave them out; by default where the forces allow them, and not where "
        "single atoms are displaced",
    )  # fmt: skip
    parser.add_argument("--learning-curve", action="store_true", help="also fit to fewer supercells")
    parser.add_argument(
        "--imaginary-threshold",
        type=not_negative,
        default=0.1,
        metavar="THZ",
        help="a mode below minus this is imaginary",
    )
    parser.add_argument("--output", default=".", metavar="FOLDER", help="where the files are written")
    parser.set_defaults(run=run)


def run(arguments):
    """Fit, report as JSON on the standard output, and write the files that ShengBTE, phonopy and phono3py read."""
    from phonoscreen.lattice.alone import Choices, determine
    from phonoscreen.lattice.settings import OrderSettings
    from phonoscreen.lattice.stability import check_stability

    data = _read(arguments)
    asked = {"third_cutoff_angstrom": arguments.third_cutoff} if arguments.third_cutoff is not None else {}
    orders = OrderSettings(
        third_shells=arguments.third_shells, second_cutoff_angstrom=arguments.second_cutoff,
        fourth_cutoff_angstrom=arguments.fourth_cutoff, **asked,
    )  # fmt: skip
    choices = Choices(
        orders, bool(arguments.third_cutoff), arguments.method, arguments.in_sequence, arguments.rotational_sum_rules,
        arguments.learning_curve,
    )  # fmt: skip
    found = determine(data, choices)
    verdict = check_stability(data.crystal, found.second, arguments.imaginary_threshold, charges=found.charges)
    _write(data.crystal, found.second, found.third, Path(arguments.output))
    for warning in found.warnings:
        print(f"phonoscreen: warning: {warning}", file=sys.stderr)
    report = {**found.report, "stable": verdict.stable, **verdict.values, "stability_reason": verdict.reason}
    report["warnings"] = found.warnings
    print(json.dumps(_without_nan(report), indent=2, default=float))
    return 0


def _without_nan(value):
    """The same with None for numbers that are not finite, which JSON cannot hold."""
    if isinstance(value, dict):
        return {name: _without_nan(own) for name, own in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(own) for own in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read(arguments):
    """Displaced supercells from any of the files understood."""
    from phonoscreen.io.displacements import read_born, read_force_sets, read_phonopy_yaml, read_snapshots
    from phonoscreen.io.labelled import check_one_setting, read_labelled
    from phonoscreen.lattice.constants import Crystal
    from phonoscreen.structures.reading import read_crystal

    given, path = Crystal.from_ase(read_crystal(arguments.structure)), arguments.forces
    tolerance = arguments.symmetry_tolerance
    chosen = {"tolerance_angstrom": tolerance} if tolerance else {}  # else the reader's own
    if str(path).endswith((".yaml", ".yaml.xz")):
        data = read_phonopy_yaml(path, **chosen)
        _check_same(given, data, arguments)
    elif "FORCE_SETS" in Path(path).name:
        if arguments.supercell is None or len(arguments.supercell) not in (3, 9):
            raise StudyError("FORCE_SETS does not say its supercell", fix="give --supercell with phonopy's DIM")
        matrix = arguments.supercell
        matrix = matrix if len(matrix) == 3 else [matrix[:3], matrix[3:6], matrix[6:]]
        data = read_force_sets(path, given, matrix, **chosen)
    else:
        frames = read_labelled(path)
        check_one_setting(frames)
        data = read_snapshots(path, given, frames, **chosen)
    if arguments.born:
        data.born, data.dielectric = read_born(arguments.born, data.crystal, given, data.symmetry_tolerance_angstrom)
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
