"""``phonoscreen bonding``: COHP of one crystal, its bonds, curves, description and files as LOBSTER writes them."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from phonoscreen.audit.errors import StudyError

if TYPE_CHECKING:
    from ase import Atoms

BUDGET_CPU_MINUTES = 10.0


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the ``bonding`` command."""
    parser = subparsers.add_parser("bonding", help="COHP of one crystal: bonds, curves, files as LOBSTER's")
    crystal = (
        "file of one crystal (CIF, POSCAR, extxyz); a folder of LOBSTER's outputs with CONTCAR; or results/bonding of "
        "a study (or a file of it, or kept records), with --structure"
    )
    parser.add_argument("structure", type=Path, help=crystal)
    parser.add_argument(
        "--engine", default="gpaw", choices=["gpaw", "tblite"], help="program that solves the electrons"
    )
    parser.add_argument(
        "--budget-cpu-minutes", type=float, default=BUDGET_CPU_MINUTES, metavar="MINUTES",
        help="refuse a crystal that gpaw would take longer for, by an estimate (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--lobster-inputs", type=Path, metavar="FOLDER",
        help="calculate nothing; write the inputs of LOBSTER to FOLDER/NAME (STRUCTURE may also be a file "
        "results/relaxed/*.h5 of a study: a folder for each structure id, as bonding.outputs expects them)",
    )  # fmt: skip
    parser.add_argument(
        "--lobster-program", default="vasp", choices=["vasp", "espresso"],
        help="program whose wave functions LOBSTER is to read: VASP or Quantum ESPRESSO",
    )  # fmt: skip
    parser.add_argument("--structure", dest="structure_id", metavar="ID", help="structure of a study to draw again")
    parser.add_argument("--output", type=Path, help="folder to write (default: bonding_NAME)")
    parser.set_defaults(run=bonding)


def bonding(arguments: argparse.Namespace) -> int:
    """Print the bonds and write curves, table, description and files that lobsterpy and pymatgen read."""
    from phonoscreen.audit.atomic import written_together
    from phonoscreen.audit.names import file_name

    if arguments.lobster_inputs:
        return _write_inputs(arguments.structure, arguments.lobster_inputs, arguments.lobster_program)
    crystal, cohp, engine = _solved(arguments)
    output = arguments.output or Path(f"bonding_{file_name(arguments.structure_id or arguments.structure.stem)}")
    with written_together(output) as folder:
        _write_results(crystal, cohp, engine, folder)
    print(
        f"{output}: COHPCAR, ICOHPLIST, CHARGE.lobster, CONTCAR, bonds.csv, description.txt, cohp.pdf, lobsterpy*.png"
    )
    return 0


def _write_results(crystal, cohp, engine, folder):
    """Write all files of a crystal to a folder, and print its bonds and what they say."""
    from phonoscreen.bonding.cohp import bonding_and_antibonding, reconstructed_descriptors
    from phonoscreen.bonding.description import describe
    from phonoscreen.bonding.lobster import write_contcar, write_lobster

    write_lobster(cohp, folder)
    write_contcar(crystal, folder / "CONTCAR")
    rows = ["bond,length_angstrom,pairs,icohp_ev,engine,spilling"]
    for name, length, members in cohp.bond_types():
        strength = cohp.icohp_ev[members].mean()
        rows.append(f"{name},{length:.4f},{len(members)},{strength:.5f},{engine},{cohp.spilling:.4f}")
        if abs(strength) > 0.01:
            print(f"{name:8s} {length:7.3f} A  {len(members):3d} pairs  ICOHP {strength:8.3f} eV")
    (folder / "bonds.csv").write_text("\n".join(rows) + "\n")
    ours = bonding_and_antibonding(cohp)
    try:
        relevant = "bonding {:.1f}, antibonding {:.2f} kJ/mol per relevant bond".format(
            *reconstructed_descriptors(cohp)
        )
    except StudyError as error:
        relevant = error.what
    try:
        words = describe(cohp, crystal, folder / "lobsterpy.png").text
    except StudyError as error:
        words = error.what
    lines = [
        f"bonding {ours[0]:.4f}, antibonding {ours[1]:.4f} eV per pair",
        relevant,
        f"spilling {cohp.spilling:.2%} ({engine})",
        *[f"uncertain: {sentence}" for sentence in cohp.all_warnings()],
        words,
    ]
    (folder / "description.txt").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    _draw(cohp, folder / "cohp.pdf")


def _write_inputs(path, folder, program):
    """Write the inputs of LOBSTER for a crystal, or for all relaxed crystals of a shard of a study."""
    from phonoscreen.audit.names import file_name
    from phonoscreen.bonding.lobster_inputs import write_lobster_inputs
    from phonoscreen.crystal.constants import Crystal

    if path.suffix == ".h5":
        import h5py

        from phonoscreen.structures.store import read_crystal

        try:
            with h5py.File(path) as store:
                crystals = {name: read_crystal(group) for name, group in store.items()}
        except (OSError, KeyError) as error:
            raise StudyError(
                f"no relaxed crystals can be read: {error}", where=str(path), fix="name results/relaxed/SHARD.h5"
            ) from error
    else:
        crystals = {path.stem: Crystal.from_ase(_read(path))}
    refused = []
    for name, crystal in crystals.items():
        try:
            write_lobster_inputs(crystal, folder / file_name(name), name, program)
        except StudyError as error:
            refused.append(f"{name}: {error.what}")
    print("\n".join([*refused, f"{folder}: inputs of {len(crystals) - len(refused)} of {len(crystals)} crystals"]))
    return 1 if refused else 0


def _solved(arguments):
    """Return crystal, COHP and the name of what it comes from."""
    from phonoscreen.bonding.engines import find_cohp, what_is_missing
    from phonoscreen.bonding.lobster import read_lobster
    from phonoscreen.crystal.constants import Crystal

    path: Path = arguments.structure
    if arguments.structure_id or _is_product(path):
        from phonoscreen.bonding.stored import find_stored

        return find_stored(path, arguments.structure_id)
    atoms = _read(path)
    crystal = Crystal.from_ase(atoms)
    if path.is_dir():
        return crystal, read_lobster(path), "lobster"
    missing = what_is_missing(arguments.engine)
    if missing:
        raise StudyError(missing, where=str(path), fix="install it, or take another --engine")
    crystal = _primitive(crystal)
    if arguments.engine == "gpaw":
        _refuse_beyond(arguments.budget_cpu_minutes, crystal, path)
    return crystal, find_cohp(crystal, path.stem, engine=arguments.engine), arguments.engine


def _primitive(crystal):
    """Return the primitive cell, and say so where the crystal was given by a larger one."""
    from phonoscreen.crystal.primitive import primitive_crystal

    primitive = primitive_crystal(crystal)
    n_given, n_atoms = len(crystal.numbers), len(primitive.numbers)
    if n_atoms == n_given:
        return crystal
    print(f"the primitive cell of {n_atoms} of the {n_given} atoms is solved")
    return primitive


def _refuse_beyond(budget_cpu_minutes, crystal, path):
    """Print what a crystal is estimated to cost; refuse what lies beyond the budget."""
    from ase.data import chemical_symbols
    from ase.formula import Formula

    from phonoscreen.bonding.cost import cpu_seconds, measured_on

    formula = str(Formula.from_list([chemical_symbols[number] for number in crystal.numbers]))
    minutes = cpu_seconds(formula, len(crystal.numbers)) / 60
    about = f"about {minutes:.1f} CPU minutes for {len(crystal.numbers)} atom{'s' * (len(crystal.numbers) > 1)}"
    if minutes > budget_cpu_minutes:
        raise StudyError(
            f"the COHP would take {about}, more than {budget_cpu_minutes:g}", where=str(path),
            fix="raise --budget-cpu-minutes, or let LOBSTER do it (--lobster-inputs)",
        )  # fmt: skip
    n_crystals, smallest, largest = measured_on()
    basis = f"estimated from {n_crystals} crystals of {smallest} to {largest} atoms"
    print(f"{about} ({basis}; a magnetic metal takes longer)", flush=True)


def _is_product(path):
    return path.suffix == ".h5" or (path.is_dir() and any(path.glob("*.h5")))


def _read(path: Path) -> "Atoms":
    """Return the atoms of a file, or of the CONTCAR in a folder of LOBSTER's outputs."""
    from phonoscreen.formats.compressed import find
    from phonoscreen.formats.structure_files import read_crystal

    if not path.is_dir():
        return read_crystal(path)
    contcar = find(path, "CONTCAR")
    if contcar is None:
        raise StudyError(
            "no CONTCAR beside LOBSTER's outputs", where=str(path), fix="put the crystal of the calculation there"
        )
    return read_crystal(contcar)


def _draw(cohp, path):
    """Draw the curves of the types of bonds with at least a tenth of the strongest ICOHP."""
    from phonoscreen.bonding.cohp import relevant_bonds
    from phonoscreen.figures import style

    figure, axes = style.new_figure(style.SINGLE, 80)
    chosen = relevant_bonds(cohp)
    for name, length, members in cohp.bond_types():
        if chosen[members].any():
            axes[0, 0].plot(
                -cohp.curves[members].mean(axis=0), cohp.energies_ev, label=f"{name} {length:.2f} A", lw=0.8
            )
    axes[0, 0].axhline(0, color="black", linewidth=0.5)
    axes[0, 0].axvline(0, color="black", linewidth=0.5)
    axes[0, 0].set(xlabel="-COHP per bond", ylabel="energy from the Fermi level (eV)")
    axes[0, 0].legend()
    figure.savefig(path, bbox_inches="tight")
