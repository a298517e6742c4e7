"""Accuracy of the transport engine: ShengBTE's own test, and convergence with the mesh beside phono3py's.

    python -m tests.benchmarks.accuracy_transport

InAs of ShengBTE 1.5.1 needs the reference data; without it that part says so. Rates are compared per degenerate set,
since those of single modes differ between builds of ShengBTE.
"""

import argparse
import tempfile
from pathlib import Path

import numpy

from phonoscreen.commands import bte as cli
from phonoscreen.phonons.dynamical_matrix import average_over_sets, degenerate_sets
from phonoscreen.stages.other_solvers import read_conductivity, solve_with_phono3py
from phonoscreen.transport.solve import Settings, solve
from tests.conftest import reference_folder

MESHES = {"two atoms, polar": (7, 9, 11, 13, 15), "three atoms, polar": (5, 7, 9, 11), "eight atoms": (3, 5, 7, 9)}


def run_command(folder, out, treatment):
    parser = argparse.ArgumentParser()
    cli.add_parser(parser.add_subparsers())
    words = ["bte", str(folder), "--out", str(out), "--degeneracy", treatment, "--threads", "1", "--quiet"]
    arguments = parser.parse_args(words)
    arguments.run(arguments)


def compare_with_shengbte(folder):
    """Print the table of InAs: this engine with both rules for degenerate bands, and ShengBTE's reference output."""
    with tempfile.TemporaryDirectory() as out:
        rules = {name: Path(out) / name for name in ("shengbte", "sets")}
        for name, place in rules.items():
            run_command(folder, place, name)
        theirs = folder / "Reference"
        print(
            "\n| InAs 12³, 300 K | ShengBTE 1.5.1 | ShengBTE's rule | change | own rule | change |\n" + "|---" * 6 + "|"
        )
        for label, name in (("kappa RTA, W/m/K", "BTE.KappaTensorVsT_RTA"), ("kappa full", "BTE.KappaTensorVsT_CONV")):
            _row(label, *(read_conductivity(place / name)[0, 0] for place in (theirs, *rules.values())))
        for name in ("BTE.P3_total", "BTE.P3_plus_total", "BTE.cvVsT", "BTE.gruneisenVsT_total"):
            _row(name, *(numpy.loadtxt(place / name).ravel()[-1] for place in (theirs, *rules.values())))
        omega = [numpy.loadtxt(place / "BTE.omega") for place in (theirs, rules["shengbte"])]
        sets = degenerate_sets(omega[0], 1e-3 / (2 * numpy.pi))
        print(f"\nlargest difference of a frequency: {numpy.abs(omega[0] - omega[1]).max() / 2 / numpy.pi:.1e} THz")
        for name in ("BTE.w_isotopic", "T300K/BTE.w_anharmonic", "T300K/BTE.w_anharmonic_plus", "T300K/BTE.WP3"):
            expected, found = (_by_sets(place / name, sets) for place in (theirs, rules["shengbte"]))
            counted = expected > 1e-6 * expected.max()
            error = 100 * numpy.abs(found[counted] / expected[counted] - 1)
            print(f"{name} per set: median {numpy.median(error):.2f} %, 95 % below {numpy.percentile(error, 95):.2f} %")


def _row(label, theirs, same, own):
    changes = [f"{100 * (value / theirs - 1):+.3f} %" for value in (same, own)]
    print(f"| {label} | {theirs:.6g} | {same:.6g} | {changes[0]} | {own:.6g} | {changes[1]} |")


def _by_sets(path, sets):
    return average_over_sets(numpy.loadtxt(path)[:, 1].reshape(sets.shape[1], -1).T, sets)


def converge_with_phono3py():
    """Print relaxation-time conductivities of both programs against the mesh."""
    from tests.test_transport_peers import CRYSTALS, EPSILON, correction_of

    print("\n| kappa RTA, W/m/K | mesh | ours | phono3py | change |\n" + "|---" * 5 + "|")
    for name, (make, charges, *_) in CRYSTALS.items():
        constants = make()
        born = None if charges is None else (numpy.array([z * numpy.eye(3) for z in charges]), EPSILON)
        for n in MESHES[name]:
            settings = Settings(isotopes=False, full_solution=False)
            mine = solve(*constants, (n,) * 3, settings, correction=correction_of(born)).rta[0].kappa[0, 0]
            theirs = solve_with_phono3py(*constants, (n,) * 3, 300.0, isotopes=False, charges=born)["rta"][0, 0]
            print(f"| {name} | {n}³ | {mine:.4g} | {theirs:.4g} | {100 * (mine / theirs - 1):+.1f} % |", flush=True)


def main():
    folder = reference_folder() / "shengbte_inas"
    if folder.is_dir():
        compare_with_shengbte(folder)
    else:
        print(f"InAs skipped: no {folder}; set PHONOSCREEN_REFERENCE")
    converge_with_phono3py()


if __name__ == "__main__":
    main()
