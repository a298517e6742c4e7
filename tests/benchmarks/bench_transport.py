"""Time and accuracy of the transport engine against phono3py on the same force constants and meshes.

    python -m tests.benchmarks.bench_transport [--threads 1 2] [--quick]

Each program runs in a process of its own with the stated number of threads; its CPU seconds (user and system) and wall
seconds are measured after a first run on a tiny mesh, so that compilation and imports are left out. Ours includes the
full solution and the coherences; phono3py's relaxation-time run includes neither. Force constants: 7net-0 forces on
randomly displaced supercells of 2 and 3 atoms per cell, central-force models for the rest.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import numpy

CASES = [("rocksalt", 15), ("half_heusler", 13), ("heusler", 13), ("elpasolite", 9), ("spinel", 7)]
QUICK = [("rocksalt", 9), ("half_heusler", 7), ("heusler", 7), ("elpasolite", 5), ("spinel", 3)]


def build(name):
    """Crystal and force constants of a case: Morse bonds between all neighbours inside a cutoff."""
    from ase.build import bulk
    from ase.spacegroup import crystal as place

    from phonoscreen.lattice.constants import Crystal
    from tests.transport_models import central_forces, morse

    def cubic(symbols, sites, group, a):
        return place(symbols, sites, spacegroup=group, cellpar=[a, a, a, 90, 90, 90], primitive_cell=True)

    quarter, half, corner = (0.25,) * 3, (0.5,) * 3, (0.0,) * 3
    atoms, reach, repetitions = {
        "rocksalt": lambda: (bulk("NaCl", "rocksalt", 5.6), 4.2, (3, 3, 3)),
        "half_heusler": lambda: (cubic(("Ti", "Sn", "Ni"), (corner, half, quarter), 216, 5.95), 4.4, (3, 3, 3)),
        "heusler": lambda: (cubic(("Al", "V", "Fe"), (corner, half, quarter), 225, 5.76), 4.2, (3, 3, 3)),
        "elpasolite": lambda: (
            cubic(("Cs", "Na", "Y", "Cl"), (quarter, corner, half, (0.245, 0, 0)), 225, 10.6), 5.4, (2, 2, 2)),
        "spinel": lambda: (
            cubic(("Mg", "Al", "O"), ((0.125,) * 3, half, (0.262,) * 3), 227, 8.1), 4.1, (2, 2, 2)),
    }[name]()  # fmt: skip
    crystal = Crystal.from_ase(atoms)
    if name == "spinel" and len(crystal.numbers) != 14:
        atoms = place(("Mg", "Al", "O"), [(0.125,) * 3, half, (0.262,) * 3], spacegroup=227, setting=2,
                      cellpar=[8.1] * 3 + [90] * 3, primitive_cell=True)  # fmt: skip
        crystal = Crystal.from_ase(atoms)

    def bonds(_first, _second, r):
        return morse(0.4 * (2.6 / r) ** 6, 1.2, r)(r)

    return crystal, *central_forces(crystal, bonds, reach, repetitions)


def measure(program, name, mesh):
    """Run one case in this process and print its numbers as JSON."""
    crystal, second, third = build(name)
    run = run_ours if program == "ours" else run_phono3py
    run(crystal, second, third, 3)
    before, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    values = run(crystal, second, third, mesh)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    row = {"program": program, "case": name, "atoms": len(crystal.numbers), "mesh": mesh, "cpu_s": cpu,
           "wall_s": time.perf_counter() - wall, "peak_mib": after.ru_maxrss / 1024, **values}  # fmt: skip
    print(json.dumps(row))


def run_ours(crystal, second, third, mesh):
    from phonoscreen.transport.solve import Settings, solve

    settings = Settings(isotopes=False, imaginary_threshold_thz=1e3)
    found = solve(crystal, second, third, (mesh,) * 3, settings)
    return {"kappa_rta": numpy.trace(found.rta[0].kappa) / 3, "kappa_full": numpy.trace(found.full[0].kappa) / 3,
            "kappa_c": numpy.trace(found.coherence[0]) / 3}  # fmt: skip


def run_phono3py(crystal, second, third, mesh):
    from phonoscreen.io.phono3py import to_phono3py

    program = to_phono3py(crystal, second, third)
    program.mesh_numbers = [mesh] * 3
    program.init_phph_interaction()
    program.run_thermal_conductivity(temperatures=[300.0])
    return {"kappa_rta": float(numpy.ravel(program.thermal_conductivity.kappa)[:3].mean())}


def in_process(program, name, mesh, threads):
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads))}
    words = [sys.executable, "-m", "tests.benchmarks.bench_transport", "--case", program, name, str(mesh)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{program} {name}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--quick", action="store_true", help="small meshes")
    parser.add_argument("--case", nargs=3, metavar=("PROGRAM", "NAME", "MESH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        measure(arguments.case[0], arguments.case[1], int(arguments.case[2]))
        return
    print("threads  case          atoms mesh |  ours cpu  wall |  phono3py cpu  wall | ratio cpu wall |"
          "  kappa RTA ours phono3py | peak MiB")  # fmt: skip
    for threads in arguments.threads:
        ratios = []
        for name, mesh in QUICK if arguments.quick else CASES:
            ours, theirs = (in_process(program, name, mesh, threads) for program in ("ours", "phono3py"))
            ratios.append(theirs["cpu_s"] / ours["cpu_s"])
            print(f"{threads:7d}  {name:13s} {ours['atoms']:5d} {mesh:4d} | {ours['cpu_s']:9.2f} {ours['wall_s']:6.2f}"
                  f"| {theirs['cpu_s']:13.2f} {theirs['wall_s']:6.2f} | {ratios[-1]:9.1f}"
                  f" {theirs['wall_s'] / ours['wall_s']:4.1f} | {ours['kappa_rta']:14.4g} {theirs['kappa_rta']:8.4g} "
                  f"| {ours['peak_mib']:7.0f}", flush=True)  # fmt: skip
        print(f"median ratio of CPU seconds with {threads} thread(s): {numpy.median(ratios):.1f}", flush=True)


if __name__ == "__main__":
    main()
