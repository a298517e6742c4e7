"""Command ``phonoscreen bte DIRECTORY``: run in a folder that ShengBTE or phono3py would run in, or that fit wrote."""

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from phonoscreen.audit.errors import StudyError

_TRY = "use another mesh (--grid), raise maxiter of CONTROL, or take the relaxation time only (--rta)"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to an ``argparse`` object made by ``add_subparsers``."""
    parser = subparsers.add_parser(
        "bte", help="solve the phonon Boltzmann equation in a folder of ShengBTE or phono3py", description=__doc__
    )
    parser.add_argument(
        "directory", type=Path,
        help="holds CONTROL and the force constants, or a YAML file of phono3py, or POSCAR and force constants",
    )  # fmt: skip
    parser.add_argument(
        "--grid", type=int, nargs=3, metavar="N", help="q mesh instead of ngrid of CONTROL (without CONTROL: automatic)"
    )
    parser.add_argument("--temperature", type=float, nargs="+", metavar="K", help="instead of T of CONTROL (else 300)")
    parser.add_argument("--scalebroad", type=float, help="instead of scalebroad of CONTROL (else 1)")
    parser.add_argument("--isotopes", action=argparse.BooleanOptionalAction,
                        help="isotope scattering (default: as CONTROL says, off without CONTROL)")  # fmt: skip
    parser.add_argument("--rta", action="store_true", help="relaxation-time approximation only")
    parser.add_argument("--supercell", type=int, nargs=3, metavar="N",
                        help="repetitions of POSCAR in the second-order constants, where several fit")  # fmt: skip
    parser.add_argument("--out", type=Path, help="folder of the BTE.* files (default: the directory itself)")
    parser.add_argument("--degeneracy", choices=("sets", "shengbte"), default="sets",
                        help="degenerate bands: independent of the eigenvectors chosen, or as ShengBTE")  # fmt: skip
    parser.add_argument("--coherence-sum", choices=("cell_average", "bare"), default="cell_average",
                        help="coherences averaged over the cell of a wave vector, or bare as phono3py")  # fmt: skip
    parser.add_argument("--imaginary-threshold", type=float, default=0.1, metavar="THZ",
                        help="frequencies below minus this make the crystal unstable (default 0.1)")  # fmt: skip
    parser.add_argument("--boundary-nm", type=float, help="length of boundary scattering")
    parser.add_argument("--single-precision", action="store_true", help="matrix elements in single precision")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: all processors")
    parser.add_argument("--memory-gib", type=float, default=4.0,
                        help="memory allowed (default 4): a larger problem is refused, a larger matrix of the full "
                        "solution is a file")  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Solve and write; return the exit status (0 solved, 1 not converged, 2 wrong input)."""
    try:
        return solve_directory(arguments)
    except StudyError as error:
        print(f"phonoscreen: {error}", file=sys.stderr)
        return 2


def solve_directory(arguments: argparse.Namespace) -> int:
    """Solve the folder that parsed ``arguments`` of ``add_parser`` name, and print the conductivities.

    The files appear in the output folder together, at the end; a run that ends in an error writes none.
    """
    from phonoscreen.crystal.mesh import build_mesh
    from phonoscreen.formats import bte_files
    from phonoscreen.formats.bte_folder import read_folder
    from phonoscreen.transport.mesh_error import sentences
    from phonoscreen.transport.solve import harmonic, solve

    started, out, solution = time.monotonic(), arguments.out or arguments.directory, None
    bte_files.check_writable(out)
    problem = read_folder(arguments.directory, _request(arguments))
    crystal, third, settings = problem.crystal, problem.third, _with_options(problem.settings, arguments)
    for line in problem.choices:
        print(line)
    for line in problem.warnings:
        print(f"warning: {line}", file=sys.stderr)
    mesh = build_mesh(crystal, problem.mesh)
    say = (lambda *_: None) if arguments.quiet else (lambda *words: print(*words, file=sys.stderr, flush=True))
    say(f"{len(crystal.numbers)} atoms, {len(mesh.points)} wave vectors, {len(mesh.irreducible)} irreducible")
    if third is None:
        modes, rates, isotope = harmonic(crystal, problem.second, mesh, settings, correction=problem.correction)
    else:
        solution = solve(crystal, problem.second, third, mesh, settings, correction=problem.correction,
                         progress=_progress(say))  # fmt: skip
        modes, rates, isotope = solution.modes, solution.rates, solution.isotope
        if not _report(solution, settings):
            return 1
        print(*sentences(solution.mesh_error, settings.temperatures_k), sep="\n")
        wires = _wires(problem, solution, settings)
    with bte_files.together(out) as folder:
        bte_files.write_harmonic(folder, crystal, modes, n_ticks=problem.n_ticks)
        bte_files.write_phase_space(folder, crystal, modes, rates, isotope, settings.temperatures_k)
        if solution is not None and third is not None:
            bte_files.write_anharmonic(folder, crystal, third, solution, settings, n_ticks=problem.n_ticks,
                                       mean_free_paths_nm=problem.mean_free_paths_nm)  # fmt: skip
            if problem.nanowires is not None:
                bte_files.write_nanowires(folder, problem.nanowires, wires, settings)
        older = bte_files.left_over(folder, out)
    if older:
        print(f"warning: {out} also holds files that this run did not write: {', '.join(older)}", file=sys.stderr)
    say(f"{time.monotonic() - started:.1f} s, files in {out}")
    return 0


def _request(arguments):
    from phonoscreen.formats.bte_folder import Request

    if not arguments.memory_gib > 0 or arguments.threads < 1:
        raise StudyError(f"--memory-gib {arguments.memory_gib:g} or --threads {arguments.threads} is not above 0",
                         where="transport", fix="give positive numbers")  # fmt: skip
    if arguments.boundary_nm is not None and not 0 < arguments.boundary_nm < float("inf"):
        raise StudyError(f"--boundary-nm {arguments.boundary_nm:g} is no length", where="transport",
                         fix="give a length above 0")  # fmt: skip
    for name in ("grid", "supercell"):
        counts = getattr(arguments, name)
        if counts is not None and min(counts) < 1:
            raise StudyError(f"--{name} {' '.join(map(str, counts))} is not three counts above 0", where="transport",
                             fix=f"give for example --{name} 4 4 4")  # fmt: skip
    settings = {"degeneracy": arguments.degeneracy, "boundary_length_nm": arguments.boundary_nm,
                "single_precision": arguments.single_precision, "memory_gib": arguments.memory_gib,
                "threads": arguments.threads}  # fmt: skip
    return Request(arguments.grid, arguments.temperature, arguments.scalebroad, arguments.isotopes,
                   False if arguments.rta else None, arguments.supercell, settings)  # fmt: skip


def _report(solution, settings):
    """Print the conductivities; return whether all of them may be written."""
    import numpy

    from phonoscreen.transport.boltzmann import unusable

    print("T (K)   kappa_p RTA   kappa_p full   kappa_c   (W/m/K, mean of the diagonal)")
    sound = True
    for t, temperature in enumerate(settings.temperatures_k):
        shown = [f"{'-':>14}"]
        for populations in (solution.rta[t], *solution.full[t : t + 1]):
            reason = unusable(populations)
            shown.append(f"{reason[0]:>14}" if reason else f"{numpy.trace(populations.kappa) / 3:14.6g}")
            if reason:
                sound = False
                error = StudyError(f"{temperature:g} K: {reason[1]}; no files are written", fix=_TRY)
                print(f"phonoscreen: {error}", file=sys.stderr)
        full = shown[2] if solution.full else shown[0]
        print(f"{temperature:<7g}{shown[1]}{full} {numpy.trace(solution.coherence[t]) / 3:9.4g}")
    return sound


def _wires(problem, solution, settings):
    """Return and print the conductivities of the nanowires that a folder asks for, one array for each temperature."""
    from phonoscreen.transport.nanowires import wire_conductivity

    wires = problem.nanowires
    found: list = []
    if wires is None:
        return found
    bound = ": lower bounds (BTE.kappa_nw_*_lower); the iterated solution for wires (BTE.kappa_nw_*) is NOT computed"
    print("nanowires, with the relaxation times of the bulk"
          + (bound if settings.full_solution else ""))  # fmt: skip
    for temperature, linewidth in zip(settings.temperatures_k, solution.linewidth, strict=True):
        kappa = wire_conductivity(solution.modes, linewidth, wires, problem.crystal.volume, temperature,
                                  settings.degeneracy)  # fmt: skip
        for direction, thin, wide in zip(wires.directions, kappa[:, 0].sum(axis=1), kappa[:, -1].sum(axis=1)):
            print(f"{temperature:<7g}along {' '.join(f'{x:.3f}' for x in direction)}: {thin:.4g} W/m/K at "
                  f"{wires.diameters_nm[0]:g} nm, {wide:.4g} at {wires.diameters_nm[-1]:g} nm")  # fmt: skip
        found.append(kappa)
    return found


def _with_options(settings, arguments):
    """Return the solver's settings with what the command line alone decides."""
    threshold = arguments.imaginary_threshold
    if not 0 <= threshold < float("inf"):
        raise StudyError(f"--imaginary-threshold {threshold} is not a frequency in THz", where="transport",
                         fix="give a number of THz such as 0.1")  # fmt: skip
    return replace(settings, coherence_sum=arguments.coherence_sum, imaginary_threshold_thz=threshold, mesh_error=True)


def _progress(say):
    state = {"begin": time.monotonic(), "last": 0.0}

    def report(done, total):
        now = time.monotonic() - state["begin"]
        if now - state["last"] > 5.0:
            state["last"] = now
            say(f"wave vector {done} of {total}, about {now / done * (total - done):.0f} s left")

    return report
