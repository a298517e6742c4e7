"""Command ``phonoscreen bte DIRECTORY``: run in a folder that ShengBTE would run in."""

import sys
import time
from pathlib import Path

from phonoscreen.audit.errors import StudyError


def add_parser(subparsers):
    """Add the command to an ``argparse`` object made by ``add_subparsers``."""
    parser = subparsers.add_parser(
        "bte", help="solve the phonon Boltzmann equation in a folder with ShengBTE's input files", description=__doc__
    )
    parser.add_argument("directory", type=Path, help="holds CONTROL and the force constants")
    parser.add_argument("--grid", type=int, nargs=3, metavar="N", help="q mesh instead of ngrid of CONTROL")
    parser.add_argument("--temperature", type=float, nargs="+", metavar="K", help="instead of T of CONTROL")
    parser.add_argument("--scalebroad", type=float, help="instead of scalebroad of CONTROL")
    parser.add_argument("--out", type=Path, help="folder of the BTE.* files (default: the directory itself)")
    parser.add_argument("--degeneracy", choices=("sets", "shengbte"), default="sets",
                        help="degenerate bands: independent of the eigenvectors chosen, or as ShengBTE")  # fmt: skip
    parser.add_argument("--boundary-nm", type=float, help="length of boundary scattering")
    parser.add_argument("--single-precision", action="store_true", help="matrix elements in single precision")
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

    from phonoscreen.io.shengbte import read_control, read_force_constants
    from phonoscreen.transport import bte_files
    from phonoscreen.transport.harmonic import DynamicalMatrix
    from phonoscreen.transport.mesh import build_mesh
    from phonoscreen.transport.modes import solve_mesh_modes
    from phonoscreen.transport.nonanalytic import EwaldCorrection, WangCorrection
    from phonoscreen.transport.solve import Settings, check_crystal, solve

    started = time.monotonic()
    control = read_control(arguments.directory / "CONTROL")
    second, third, alat = read_force_constants(arguments.directory, control)
    crystal, flags = control.crystal, control.flags
    settings = Settings(
        temperatures_k=tuple(arguments.temperature or control.temperatures_k),
        scalebroad=control.scalebroad if arguments.scalebroad is None else arguments.scalebroad,
        isotopes=flags["isotopes"], mass_variances=control.mass_variances, full_solution=flags["convergence"],
        iterations_max=control.iterations_max, tolerance=control.tolerance, degeneracy=arguments.degeneracy,
        boundary_length_nm=arguments.boundary_nm, single_precision=arguments.single_precision,
    )  # fmt: skip
    correction = None
    if flags["nonanalytic"] and alat is not None:

        def correction(crystal, constants):
            charges = control.born.transpose(0, 2, 1)  # with espresso, ShengBTE takes the field as the second index
            return EwaldCorrection(crystal, charges, control.epsilon, (2 * numpy.pi / alat) ** 2)
    elif flags["nonanalytic"]:

        def correction(crystal, constants):
            return WangCorrection(crystal, constants, control.born, control.epsilon)

    out = arguments.out or arguments.directory
    check_crystal(crystal)
    mesh = build_mesh(crystal, arguments.grid or control.mesh)
    say = (lambda *_: None) if arguments.quiet else (lambda *words: print(*words, file=sys.stderr, flush=True))
    say(f"{len(crystal.numbers)} atoms, {len(mesh.points)} wave vectors, {len(mesh.irreducible)} irreducible")
    if third is None:
        modes = solve_mesh_modes(DynamicalMatrix(crystal, second, correction), mesh, degeneracy=settings.degeneracy)
        bte_files.write_harmonic(out, crystal, modes, n_ticks=control.n_ticks)
        say(f"harmonic properties in {out}")
        return 0
    solution = solve(crystal, second, third, mesh, settings, correction=correction, progress=_progress(say))
    bte_files.write_harmonic(out, crystal, solution.modes, n_ticks=control.n_ticks)
    bte_files.write_anharmonic(out, crystal, third, solution, settings, n_ticks=control.n_ticks,
                               mean_free_paths_nm=control.mean_free_paths_nm)  # fmt: skip
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
    say(f"{time.monotonic() - started:.1f} s, files in {out}")
    return 0 if converged else 1


def _progress(say):
    state = {"begin": time.monotonic(), "last": 0.0}

    def report(done, total):
        now = time.monotonic() - state["begin"]
        if now - state["last"] > 5.0:
            state["last"] = now
            say(f"wave vector {done} of {total}, about {now / done * (total - done):.0f} s left")

    return report
