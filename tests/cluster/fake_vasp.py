"""A stand-in for VASP: springs between the atoms of a rock salt, as slow as it is told; every run leaves its mark.

Reads POSCAR in the current folder and writes vasprun.xml. Unlike neighbours rest at the distance in ``REST``, like ones
at its square root of two. ``FAKE_VASP_RUNS`` names a file to which a run appends ``begun`` and ``done`` lines with its
folder. ``FAKE_VASP_SECONDS`` is how long it takes; it ends not before the file ``FAKE_VASP_HOLD`` has gone; of the runs
that find the file ``FAKE_VASP_HANG`` one never ends, and of those that find ``FAKE_VASP_FAIL`` one ends with an error.
"""

import os
import sys
import time

import numpy

REST = {"NaCl": 2.84, "KBr": 3.35, "RbI": 3.74, "BaTe": 3.53, "LiF": 2.03, "MgO": 2.12}
STIFFNESS = {True: 1.0, False: 0.3}  # eV/angstrom^2, of unlike and of like neighbours
KILOBAR = 1602.1766208  # of one eV/angstrom^3


def read_poscar(path):
    """Return cell, scaled positions and symbols."""
    lines = open(path).read().splitlines()
    cell = numpy.array([line.split() for line in lines[2:5]], dtype=float) * float(lines[1])
    counts = [int(n) for n in lines[6].split()]
    symbols = [name for name, n in zip(lines[5].split(), counts) for _ in range(n)]
    rows = [line.split()[:3] for line in lines[8 : 8 + len(symbols)]]
    return cell, numpy.array(rows, dtype=float), symbols


def forces_and_stress(cell, scaled, symbols, rest):
    """Return energy (eV), forces (n, 3) in eV/angstrom and stress (3, 3) in eV/angstrom^3 of the springs."""
    positions, n = scaled @ cell, len(symbols)
    unlike = numpy.array(symbols)[:, None] != numpy.array(symbols)[None, :]
    energy, forces, virial = 0.0, numpy.zeros((n, 3)), numpy.zeros((3, 3))
    reach = 1 + numpy.ceil(1.6 * rest / numpy.abs(numpy.linalg.det(cell) / _areas(cell))).astype(int)
    for shift in numpy.ndindex(*(2 * reach + 1)):
        vectors = positions[None] + (numpy.array(shift) - reach) @ cell - positions[:, None]
        lengths = numpy.linalg.norm(vectors, axis=2)
        for kind, length in ((True, rest), (False, 2**0.5 * rest)):
            i, j = numpy.nonzero((unlike == kind) & (abs(lengths - length) < 0.15 * length))
            stretch = lengths[i, j] - length
            pull = STIFFNESS[kind] * (stretch / lengths[i, j])[:, None] * vectors[i, j]
            energy += 0.25 * STIFFNESS[kind] * (stretch**2).sum()
            numpy.add.at(forces, i, pull)
            virial += 0.5 * vectors[i, j].T @ pull
    return energy, forces, virial / abs(numpy.linalg.det(cell))


def _areas(cell):
    return numpy.linalg.norm(numpy.cross(numpy.roll(cell, -1, axis=0), numpy.roll(cell, -2, axis=0)), axis=1)


def write_vasprun(path, cell, scaled, symbols, energy, forces, stress):
    """Write a vasprun.xml as short as readers allow."""
    kinds = list(dict.fromkeys(symbols))
    atoms = "".join(f"<rc><c>{s}</c><c>{kinds.index(s) + 1}</c></rc>" for s in symbols)
    types = "".join(f"<rc><c>{symbols.count(k)}</c><c>{k}</c><c>1</c><c>1</c><c>PAW_PBE {k}</c></rc>" for k in kinds)

    def vectors(name, rows):
        inner = "".join("<v>" + " ".join(f"{x:.14f}" for x in row) + "</v>" for row in rows)
        return f'<varray name="{name}">{inner}</varray>'

    structure = f"<structure{{}}><crystal>{vectors('basis', cell)}</crystal>{vectors('positions', scaled)}</structure>"
    energies = "".join(f'<i name="{n}">{energy:.12f}</i>' for n in ("e_fr_energy", "e_wo_entrp", "e_0_energy"))
    initial, final = (structure.format(f' name="{name}"') for name in ("initialpos", "finalpos"))
    step = f"<scstep><energy>{energies}</energy></scstep>"
    with open(f"{path}.partial", "w") as stream:
        stream.write(
            '<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling><generator><i name="version">5.4.4</i></generator>'
            '<incar><i name="NELM">200</i><i name="EDIFF">1e-08</i></incar><parameters><separator name="electronic">'
            '<i type="int" name="NELM">200</i><i name="EDIFF">0.00000001</i></separator></parameters>'
            '<kpoints><generation param="Gamma"><v type="int" name="divisions">2 2 2</v></generation>'
            '<varray name="kpointlist"><v>0.0 0.0 0.0</v></varray><varray name="weights"><v>1.0</v></varray></kpoints>'
            f"<atominfo><atoms>{len(symbols)}</atoms><types>{len(kinds)}</types>"
            f'<array name="atoms"><set>{atoms}</set></array><array name="atomtypes"><set>{types}</set></array>'
            f"</atominfo>{initial}<calculation>{step * 9}{structure.format('')}"
            f"{vectors('forces', forces)}{vectors('stress', -KILOBAR * stress)}<energy>{energies}</energy>"
            f"</calculation>{final}</modeling>\n"
        )
    os.replace(f"{path}.partial", path)


def mark(what):
    """Append one line about this run."""
    if "FAKE_VASP_RUNS" in os.environ:
        line = f"{what} {os.getcwd()} {os.environ.get('SLURM_JOB_ID', '-')}\n"
        descriptor = os.open(os.environ["FAKE_VASP_RUNS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, line.encode())
        os.close(descriptor)


def is_told(variable):
    """Return whether the file exists that a variable names; of several runs one is told, and takes it away."""
    path = os.environ.get(variable, "")
    try:
        os.rename(path, f"{path}.took")
    except OSError:
        return False
    with open(f"{path}.taken", "w") as stream:
        stream.write(os.environ.get("SLURM_JOB_ID", "-"))
    return True


if __name__ == "__main__":
    mark("begun")
    cell, scaled, symbols = read_poscar("POSCAR")
    kinds = set(symbols)
    rest = next(r for name, r in REST.items() if all(kind in name for kind in kinds))
    results = forces_and_stress(cell, scaled, symbols, rest)
    if is_told("FAKE_VASP_FAIL"):
        sys.exit("stand-in: told to fail")
    if is_told("FAKE_VASP_HANG"):
        time.sleep(3600)
    while os.path.exists(os.environ.get("FAKE_VASP_HOLD", "")):
        time.sleep(0.2)
    time.sleep(float(os.environ.get("FAKE_VASP_SECONDS", "0")))
    write_vasprun("vasprun.xml", cell, scaled, symbols, *results)
    mark("done")
