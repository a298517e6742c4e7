"""CPU time of a call of the engine nequix against the package's own calculator, one thread.

``.venv-nequix/bin/python -m tests.benchmarks.bench_nequix WEIGHTS``; the first call of a shape compiles: timed apart.
"""

import os
import sys
import time

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy
from ase.build import bulk
from ase.spacegroup import crystal


def crystals():
    """Displaced supercells of 54 to 80 atoms, from open to dense."""
    sites = [(0.5, 0.5, 0.5), (0, 0, 0), (0.25, 0.25, 0.25), (0.235, 0, 0)]
    elpasolite = crystal(
        ["Na", "Y", "Cs", "Cl"], sites, spacegroup=225, cellpar=[10.7] * 3 + [90] * 3, primitive_cell=True
    )
    yield "Cs2NaYCl6", elpasolite.repeat(2)
    yield "NaCl", bulk("NaCl", "rocksalt", a=5.69).repeat(3)
    yield "MgO", bulk("MgO", "rocksalt", a=4.25).repeat(3)
    yield "Cu", bulk("Cu", "fcc", a=3.61).repeat(4)


def timed(call, repeats=3):
    """CPU seconds of the first call and of the fastest later one."""
    times = []
    for _ in range(repeats + 1):
        begin = time.process_time()
        call()
        times.append(time.process_time() - begin)
    return times[0], min(times[1:])


def main():
    """Print the table."""
    from nequix.calculator import NequixCalculator

    from phonoscreen.reference.nequix import NequixEngine

    weights, rng = sys.argv[1], numpy.random.default_rng(1)
    engine = NequixEngine("nequix-oam-1-pft", weights)
    calculator = NequixCalculator(model_path=weights, backend="jax", use_kernel=False)
    print("crystal    atoms  engine first / later   package first / later   largest force difference")
    for name, atoms in crystals():
        atoms.positions += 0.02 * rng.standard_normal(atoms.positions.shape)
        ours = timed(lambda atoms=atoms: engine.evaluate(atoms))

        def theirs(atoms=atoms):
            calculator.reset()
            return calculator.get_forces(atoms)

        package = timed(theirs)
        difference = numpy.abs(engine.forces(atoms)[1] - calculator.get_forces(atoms)).max()
        numbers = "  ".join(f"{first:6.2f} / {later:5.3f}" for first, later in (ours, package))
        print(f"{name:10s} {len(atoms):4d}   {numbers}   {difference:.1e} eV/angstrom", flush=True)


if __name__ == "__main__":
    main()
