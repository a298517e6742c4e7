"""Command ``phonoscreen fit``: force constants of one crystal from displacements and forces."""

import argparse
import sys

from phonoscreen.commands.fit_options import count, methods, not_negative, positive


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the main command line."""
    parser = subparsers.add_parser(
        "fit", help="force constants of one crystal from displacements and forces", description=__doc__
    )
    parser.add_argument(
        "structure",
        help="crystal that was repeated, primitive or not: any file ASE reads, for example POSCAR or CIF; or, alone, a "
        "folder or YAML file of phonopy or phono3py, or a folder of TDEP",
    )
    parser.add_argument(
        "forces", nargs="*",
        help="displaced supercells with forces: vasprun.xml, OUTCAR, extended XYZ (any number of files or folders of "
        "them), YAML files or folders of phonopy and phono3py, FORCE_SETS, ALAMODE's DFSET, folders of TDEP's infiles, "
        "hiphive's StructureContainer; all also compressed (.xz, .gz, .bz2)",
    )  # fmt: skip
    parser.add_argument(
        "--supercell", nargs="+", metavar="N",
        help="of FORCE_SETS and DFSET: 3 or 9 integers (phonopy's DIM), or the file of the perfect supercell (SPOSCAR)",
    )  # fmt: skip
    parser.add_argument("--forces-name", metavar="NAME", help="array of forces, where a file holds several")
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
        "differences where single atoms or pairs are displaced (phonopy's, phono3py's), else least_squares",
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
    parser.add_argument("--output", default="force_constants", metavar="FOLDER", help="where the files are written")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Find the force constants, report as JSON on the standard output, and write the files of other programs."""
    from phonoscreen.crystal.masses import describe_masses, mass_doubts
    from phonoscreen.force_constants.settings import OrderSettings
    from phonoscreen.formats.constants_folder import check_folder, write_constants
    from phonoscreen.formats.fit_input import FitInput, read_fit_input
    from phonoscreen.phonons.stability import check_stability
    from phonoscreen.stages.one_crystal import Choices, determine
    from phonoscreen.transport.isotopes import isotope_doubts

    data = read_fit_input(FitInput(arguments.structure, arguments.forces, arguments.supercell, arguments.born,
                                   arguments.forces_name, arguments.symmetry_tolerance))  # fmt: skip
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
    inputs = [arguments.structure, *arguments.forces, arguments.born]
    check_folder(arguments.output, found.third is not None, found.charges is not None, inputs)
    verdict = check_stability(found.crystal, found.second, arguments.imaginary_threshold, charges=found.charges)
    found.warnings += isotope_doubts(found.crystal.numbers, found.crystal.masses)
    found.warnings += mass_doubts(found.crystal.numbers, found.crystal.masses)
    report = {"files_read": data.used, "masses": describe_masses(found.crystal.numbers, found.crystal.masses),
              **found.report, "stable": verdict.stable, **verdict.values, "stability_reason": verdict.reason,
              "warnings": found.warnings}  # fmt: skip
    text = write_constants(
        found.crystal, found.second, found.third, arguments.output, report, found.third_repetitions, found.charges
    )
    for warning in found.warnings:
        print(f"phonoscreen: warning: {warning}", file=sys.stderr)
    print(text)
    return 0
