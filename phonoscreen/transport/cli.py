"""Command ``phonoscreen bte DIRECTORY``: run in a folder that ShengBTE, or phono3py, would run in."""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from phonoscreen.audit.errors import StudyError


def add_parser(subparsers):
    """Add the command to an ``argparse`` object made by ``add_subparsers``."""
    parser = subparsers.add_parser(
        "bte", help="solve the phonon Boltzmann equation in a folder with ShengBTE's input files", description=__doc__
    )
    parser.add_argument(
        "directory", type=Path, help="holds CONTROL and the force constants, or a YAML file of phono3py"
    )
    parser.add_argument(
        "--grid", type=int, nargs=3, metavar="N", help="q mesh instead of ngrid of CONTROL (phono3py: automatic)"
    )
    parser.add_argument("--temperature", type=float, nargs="+", metavar="K", help="instead of T of CONTROL")
    parser.add_argument("--scalebroad", type=float, help="instead of scalebroad of CONTROL")
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
    parser.add_argument(
        "--memory-gib", type=float, default=4.0, help="largest matrix in memory; a larger one is a file"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=run)


def run(arguments):
    """Solve and write; return the exit status (0 solved, 1 not converged, 2 wrong input)."""
    try:
        return solve_directory(arguments)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def solve_directory(arguments):
    """Solve the folder that parsed ``arguments`` of ``add_parser`` name, and print the conductivities."""
    import numpy

    from phonoscreen.transport import bte_files
    from phonoscreen.transport.harmonic import DynamicalMatrix
    from phonoscreen.transport.inputs import read_folder
    from phonoscreen.transport.mesh import build_mesh
    from phonoscreen.transport.mesh_error import sentences
    from phonoscreen.transport.modes import solve_mesh_modes
    from phonoscreen.transport.solve import check_crystal, solve

    started = time.monotonic()
    problem = read_folder(
        arguments.directory, mesh=arguments.grid, temperatures_k=arguments.temperature, scalebroad=arguments.scalebroad,
        degeneracy=arguments.degeneracy, boundary_length_nm=arguments.boundary_nm,
        single_precision=arguments.single_precision, memory_gib=arguments.memory_gib, threads=arguments.threads,
    )  # fmt: skip
    crystal, third, settings = problem.crystal, problem.third, _with_options(problem.settings, arguments)
    out = arguments.out or arguments.directory
    check_crystal(crystal)
    mesh = build_mesh(crystal, problem.mesh)
    say = (lambda *_: None) if arguments.quiet else (lambda *words: print(*words, file=sys.stderr, flush=True))
    say(f"{len(crystal.numbers)} atoms, {len(mesh.points)} wave vectors, {len(mesh.irreducible)} irreducible")
    if third is None:
        matrix = DynamicalMatrix(crystal, problem.second, problem.correction)
        modes = solve_mesh_modes(matrix, mesh, degeneracy=settings.degeneracy,
                                 imaginary_threshold_thz=settings.imaginary_threshold_thz)  # fmt: skip
        bte_files.write_harmonic(out, crystal, modes, n_ticks=problem.n_ticks)
        say(f"harmonic properties in {out}")
        return 0
    solution = solve(
        crystal, problem.second, third, mesh, settings, correction=problem.correction, progress=_progress(say)
    )
    bte_files.write_harmonic(out, crystal, solution.modes, n_ticks=problem.n_ticks)
    bte_files.write_anharmonic(out, crystal, third, solution, settings, n_ticks=problem.n_ticks,
                               mean_free_paths_nm=problem.mean_free_paths_nm)  # fmt: skip
    print("T (K)   kappa_p RTA   kappa_p full   kappa_c   (W/m/K, mean of the diagonal)")
    converged = True
    for t, temperature in enumerate(settings.temperatures_k):
        full = f"{numpy.trace(solution.full[t].kappa) / 3:14.6g}" if solution.full else f"{'-':>14}"
        print(f"{temperature:<7g} {numpy.trace(solution.rta[t].kappa) / 3:11.6g} {full} "
              f"{numpy.trace(solution.coherence[t]) / 3:9.4g}")  # fmt: skip
        if solution.full and not solution.full[t].converged:
            converged = False
            print(f"error: the iteration at {temperature:g} K did not converge in {solution.full[t].iterations} steps",
                  file=sys.stderr)  # fmt: skip
    print(*sentences(solution.mesh_error, settings.temperatures_k), sep="\n")
    say(f"{time.monotonic() - started:.1f} s, files in {out}")
    return 0 if converged else 1


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
