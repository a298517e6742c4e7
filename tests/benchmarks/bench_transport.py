"""Time and accuracy of the transport engine against phono3py on the same force constants and meshes.

    python -m tests.benchmarks.bench_transport [--threads 1 2] [--quick] [--figure PNG]

Each program runs in a process of its own with the stated number of threads. Its CPU seconds (user and system), wall
seconds and peak memory are those of the second of two runs, the first on a tiny mesh, so that imports and compilation
are left out. Ours is one run: relaxation time, full solution and coherences. phono3py runs twice, each the fastest way
to that result: the relaxation time alone, and its direct solution (LBTE). Force constants: central-force models of real
prototypes; with the reference data also DFT's NaCl, whose third order has no cutoff.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time

import numpy
from threadpoolctl import threadpool_limits

CASES = {  # mesh a user would choose, small mesh
    "rocksalt": (15, 9), "half_heusler": (13, 7), "heusler": (13, 7), "elpasolite": (9, 5), "spinel": (7, 3),
    "nacl_dft": (15, 9),
}  # fmt: skip
GROWTH = {"rocksalt": (7, 9, 11, 13, 15, 19, 23), "half_heusler": (5, 7, 9, 11, 13, 17), "heusler": (5, 7, 9, 11, 13),
          "elpasolite": (3, 5, 7, 9, 11), "spinel": (3, 5, 7, 9)}  # fmt: skip


def build(name):
    """Crystal, force constants and charges (or None) of a case."""
    if name == "nacl_dft":
        return build_nacl()
    from ase.build import bulk
    from ase.spacegroup import crystal as place

    from phonoscreen.crystal.constants import Crystal
    from tests.transport_models import central_forces, morse

    def cubic(symbols, sites, group, a):
        return place(symbols, sites, spacegroup=group, cellpar=[a, a, a, 90, 90, 90], primitive_cell=True)

    def spinel():
        return place(("Mg", "Al", "O"), [(0.125,) * 3, half, (0.262,) * 3], spacegroup=227, setting=2,
                     cellpar=[8.1] * 3 + [90] * 3, primitive_cell=True)  # fmt: skip

    quarter, half, corner = (0.25,) * 3, (0.5,) * 3, (0.0,) * 3
    atoms, reach, repetitions = {
        "rocksalt": lambda: (bulk("NaCl", "rocksalt", 5.6), 4.2, (3, 3, 3)),
        "half_heusler": lambda: (cubic(("Ti", "Sn", "Ni"), (corner, half, quarter), 216, 5.95), 4.4, (3, 3, 3)),
        "heusler": lambda: (cubic(("Al", "V", "Fe"), (corner, half, quarter), 225, 5.76), 4.2, (3, 3, 3)),
        "elpasolite": lambda: (
            cubic(("Cs", "Na", "Y", "Cl"), (quarter, corner, half, (0.245, 0, 0)), 225, 10.6), 5.4, (2, 2, 2)),
        "spinel": lambda: (spinel(), 4.1, (2, 2, 2)),
    }[name]()  # fmt: skip
    crystal = Crystal.from_ase(atoms)

    def bonds(_first, _second, r):
        return morse(0.4 * (2.6 / r) ** 6, 1.2, r)(r)

    return *(crystal, *central_forces(crystal, bonds, reach, repetitions)), None


def load_nacl():
    """phono3py's object of NaCl with DFT forces on 64 atoms, force constants by symfc."""
    import phono3py

    from tests.conftest import reference_folder

    path = reference_folder() / "displaced_supercells/nacl/phono3py_params_NaCl.yaml.xz"
    return phono3py.load(path, log_level=0, fc_calculator="symfc")


def build_nacl():
    from phonoscreen.formats.phono3py import from_phono3py

    program = load_nacl()
    return *from_phono3py(program), (program.nac_params["born"], program.nac_params["dielectric"])


def ours(name, threads):
    """Return a function of the mesh that solves everything with this project's engine."""
    from phonoscreen.phonons.long_range import GonzeCorrection
    from phonoscreen.transport.solve import Settings, solve

    crystal, second, third, charges = build(name)
    correction = None if charges is None else lambda *of: GonzeCorrection(*of, *charges)
    settings = Settings(isotopes=False, imaginary_threshold_thz=1e3, threads=threads)

    def run(mesh):
        found = solve(crystal, second, third, (mesh,) * 3, settings, correction=correction)
        tensors = {"rta": found.rta[0].kappa, "full": found.full[0].kappa, "coherences": found.coherence[0]}
        return {key: float(numpy.trace(kappa) / 3) for key, kappa in tensors.items()}

    def flop(mesh):
        return count_flop(crystal, third, (mesh,) * 3)

    return run, flop


def phono3py_s(name, full):
    """Return a function of the mesh that solves with phono3py: relaxation time, or the direct solution."""
    from phonoscreen.formats.phono3py import to_phono3py

    program = load_nacl() if name == "nacl_dft" else to_phono3py(*build(name)[:3])

    def run(mesh):
        program.mesh_numbers = [mesh] * 3
        program.init_phph_interaction()
        program.run_thermal_conductivity(temperatures=[300.0], is_LBTE=full)
        kappa = numpy.ravel(program.thermal_conductivity.kappa)[:3].mean()
        return {"full" if full else "rta": float(kappa)}

    return run


def count_flop(crystal, third, shape):
    """Floating-point operations of the matrix products: transforms over lattice vectors and first contraction."""
    from phonoscreen.crystal.mesh import build_mesh
    from phonoscreen.transport.scattering import pairs_of
    from phonoscreen.transport.third_order import ThirdOrderTransform

    mesh = build_mesh(crystal, shape)
    transform, n_band = ThirdOrderTransform(crystal, third, mesh), 3 * len(crystal.numbers)
    total = 0
    for point in mesh.irreducible:
        pairs = len(pairs_of(mesh, point)[0])
        total += 8 * n_band**3 * transform.products(pairs) + 8 * n_band**4 * pairs
    return int(total)


def matrix_rate():
    """Largest rate of a complex matrix product of one thread, GF per CPU second."""
    left, right = (numpy.random.default_rng(k).normal(size=(1000, 1000)) + 0j for k in (0, 1))
    best = numpy.inf
    with threadpool_limits(1):
        for _ in range(4):
            start = time.process_time()
            left @ right
            best = min(best, time.process_time() - start)
    return 8 * 1000**3 / best / 1e9


def measure(program, name, mesh, threads):
    """Run one case in this process and print its numbers as JSON."""
    if program == "ours":
        run, flop = ours(name, threads)
    else:
        run, flop = phono3py_s(name, program == "lbte"), None
    run(3)
    before, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    kappa = run(mesh)
    wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_SELF)
    row = {"cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, "wall_s": wall,
           "peak_mib": after.ru_maxrss / 1024, **kappa}  # fmt: skip
    if flop is not None:
        row["gflop"], row["matrix_gflop_per_s"] = flop(mesh) / 1e9, matrix_rate()
    print(json.dumps(row))


def in_process(program, name, mesh, threads):
    """Return the numbers of one case, measured in a process of its own."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads))}
    words = [sys.executable, "-m", "tests.benchmarks.bench_transport", "--case", program, name, str(mesh), str(threads)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{program} {name}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(threads, quick):
    """Print the table of times of all cases; return our rows and phono3py's of the relaxation time."""
    from tests.conftest import reference_folder

    print(f"\n{threads} thread(s): CPU seconds (wall seconds); ours is full solution and coherences in one run\n")
    print("| case | atoms | mesh | ours | phono3py RTA | LBTE | ratio RTA, LBTE | kappa RTA: ours, phono3py | full | "
          "MiB: ours, phono3py | share of matrix rate |\n" + "|---" * 11 + "|")  # fmt: skip
    ratios = {"rta": [], "lbte": []}
    for name, meshes in CASES.items():
        if name == "nacl_dft" and not reference_folder().is_dir():
            print(f"| {name} | skipped: PHONOSCREEN_REFERENCE is not there |")
            continue
        mesh = meshes[1] if quick else meshes[0]
        mine, rta, lbte = (in_process(program, name, mesh, threads) for program in ("ours", "rta", "lbte"))
        ratio = {key: other["cpu_s"] / mine["cpu_s"] for key, other in (("rta", rta), ("lbte", lbte))}
        if name != "nacl_dft":
            for key, value in ratio.items():
                ratios[key].append(value)
        share = mine["gflop"] / mine["cpu_s"] / mine["matrix_gflop_per_s"]
        seconds = " | ".join(f"{row['cpu_s']:.2f} ({row['wall_s']:.2f})" for row in (mine, rta, lbte))
        print(f"| {name} | {len(build(name)[0].numbers)} | {mesh}³ | {seconds} "
              f"| {ratio['rta']:.1f}, {ratio['lbte']:.1f} | {mine['rta']:.4g}, {rta['rta']:.4g} "
              f"| {mine['full']:.4g}, {lbte['full']:.4g} | {mine['peak_mib']:.0f}, {rta['peak_mib']:.0f} "
              f"| {100 * share:.0f} % |", flush=True)  # fmt: skip
    print(f"\nmedian ratio of CPU seconds, central-force models: RTA {numpy.median(ratios['rta']):.1f}, "
          f"LBTE {numpy.median(ratios['lbte']):.1f}", flush=True)  # fmt: skip


def draw_growth(path):
    """Draw our CPU seconds against the number of wave vectors of each crystal; the slope stands in the legend."""
    from phonoscreen.figures import style

    figure, axes = style.new_figure(style.SINGLE * 1.2, 85)
    axis = axes[0, 0]
    for (name, meshes), colour in zip(GROWTH.items(), (style.BLUE, style.RED, style.GREEN, style.PURPLE, style.ORANGE)):
        seconds = [in_process("ours", name, mesh, 1)["cpu_s"] for mesh in meshes]
        points, atoms = numpy.array(meshes) ** 3, len(build(name)[0].numbers)
        slope = numpy.polyfit(numpy.log(points[-3:]), numpy.log(seconds[-3:]), 1)[0]
        axis.plot(points, seconds, "o-", color=colour, label=f"{name}, {atoms} atoms: N$^{{{slope:.2f}}}$")
        print(
            f"{name:13s}", *(f"{mesh}³ {s:.2f} s" for mesh, s in zip(meshes, seconds)), f"slope {slope:.2f}", flush=True
        )
    axis.set(xscale="log", yscale="log", xlabel="wave vectors N", ylabel="CPU seconds, one thread")
    axis.set_xlim(left=5)
    axis.legend(loc="upper left")
    figure.savefig(path, dpi=200, metadata={"Software": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--quick", action="store_true", help="small meshes")
    parser.add_argument("--figure", metavar="PNG", help="also draw how the cost grows with mesh and atoms")
    parser.add_argument("--case", nargs=4, metavar=("PROGRAM", "NAME", "MESH", "THREADS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        program, name, mesh, threads = arguments.case
        measure(program, name, int(mesh), int(threads))
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors, {time.strftime('%Y-%m-%d')}")
    for threads in arguments.threads:
        compare(threads, arguments.quick)
    if arguments.figure:
        draw_growth(arguments.figure)


if __name__ == "__main__":
    main()
