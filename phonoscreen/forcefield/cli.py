"""``phonoscreen predict``: forces of a published model on structures of the user."""

import sys

import numpy

from phonoscreen.audit.errors import StudyError


def add_parser(subparsers):
    """Add the ``predict`` command."""
    parser = subparsers.add_parser("predict", help="forces of a published model on structures of any file ASE reads")
    parser.add_argument("structures", nargs="+", help="files with one or several structures (extxyz, CIF, POSCAR, ...)")
    parser.add_argument("--model", required=True, help="folder of a published model")
    parser.add_argument("--output", default="forces.extxyz", help="extended XYZ to write")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.set_defaults(run=predict)


def predict(arguments):
    """Write the structures with forces and the committee's uncertainty per atom; failures are reported, not fatal."""
    import ase.io
    from ase.calculators.singlepoint import SinglePointCalculator

    from phonoscreen.forcefield.calculator import ForceModelCalculator

    calculator = ForceModelCalculator(arguments.model, arguments.device)
    done, failed = [], 0
    for path in arguments.structures:
        for number, atoms in enumerate(ase.io.read(path, index=":")):
            try:
                calculator.calculate(atoms)
            except StudyError as error:
                failed += 1
                print(f"{path}#{number}: {error}", file=sys.stderr)
                continue
            forces, spread = calculator.results["forces"], calculator.results["uncertainty"]
            atoms.calc = SinglePointCalculator(atoms, forces=forces)
            atoms.set_array("uncertainty", spread)
            done.append(atoms)
            rms = 1e3 * numpy.sqrt((forces**2).mean())
            print(f"{path}#{number}: RMS force {rms:.1f} meV/A, largest uncertainty {1e3 * spread.max():.1f} meV/A")
    if done:
        ase.io.write(arguments.output, done, format="extxyz")
    return 1 if failed else 0
