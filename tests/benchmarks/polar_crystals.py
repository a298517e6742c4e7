"""NaCl and MgO from the same DFT forces: frequencies and thermal conductivity here and by phono3py with symfc.

``make benchmark-polar-crystals``. 30 of the supercells of phono3py's examples (64 atoms, VASP PBEsol) are fitted, with
the Born charges of the same files. phono3py solves for all pairs and triplets of the supercell with symfc; here the
third order ends at a cutoff. The same constants are also put into phono3py, which separates what the force constants
change from what the two solvers of the Boltzmann equation do (adaptive Gaussians here, tetrahedra there).
"""

import contextlib
import io
import time

import numpy
from threadpoolctl import threadpool_limits

from phonoscreen.force_constants.basis import build_basis
from phonoscreen.force_constants.cutoffs import choose_cutoff
from phonoscreen.force_constants.fit import ForceConstantFitter
from phonoscreen.formats.displacements import read_phonopy_yaml
from phonoscreen.formats.phono3py import to_phono3py
from phonoscreen.phonons.dipoles import dipole_correction
from phonoscreen.phonons.dynamical_matrix import DynamicalMatrix, frequencies_thz
from phonoscreen.phonons.long_range import GonzeCorrection
from phonoscreen.transport.solve import Settings, solve
from tests.conftest import reference_folder

FILES = {"NaCl": "nacl/phono3py_params_NaCl.yaml.xz", "MgO": "mgo/phono3py_params_MgO-222rd-444rd.yaml.xz"}
FITTED = 30
MESH = (11, 11, 11)
TEMPERATURE_K = 300.0
POINTS = {"Gamma": (0, 0, 0), "X": (0.5, 0.5, 0), "L": (0.5, 0.5, 0.5), "W": (0.5, 0.75, 0.25)}
"""In units of the reciprocal vectors of the standard primitive cell."""


def fit(path):
    """Data, charges, and force constants of this project."""
    data = read_phonopy_yaml(path)
    cutoff = choose_cutoff(data.crystal, data.repetitions, 10.0).value_angstrom
    basis = build_basis(data.crystal, data.repetitions, (None, cutoff))
    fitted = ForceConstantFitter(basis).fit(data.crystal, data.displacements[:FITTED], data.forces[:FITTED])
    return data, basis.expand_second(fitted.parameters), basis.expand_third(fitted.parameters)


def phono3py_of(path, n_supercells=FITTED):
    """phono3py with symfc's force constants from the same supercells."""
    from phono3py import Phono3py
    from phono3py.interface.phono3py_yaml import Phono3pyYaml

    content = Phono3pyYaml().read(path)
    program = Phono3py(content.unitcell, content.supercell_matrix, primitive_matrix=content.primitive_matrix,
                       log_level=0)  # fmt: skip
    program.dataset = {name: content.dataset[name][:n_supercells] for name in ("displacements", "forces")}
    with contextlib.redirect_stdout(io.StringIO()):
        program.produce_fc3(fc_calculator="symfc")
    program.nac_params = content.nac_params
    return program


def frequencies(program, points):
    """phono3py's frequencies at wave vectors of its primitive cell, THz."""
    from phonopy import Phonopy

    phonon = Phonopy(program.unitcell, program.supercell_matrix, primitive_matrix=program.primitive_matrix)
    phonon.force_constants, phonon.nac_params = program.fc2, program.nac_params
    phonon.run_qpoints(points)
    return phonon.qpoints.frequencies


def conductivity(program):
    """phono3py's RTA and full conductivity, W/m/K, isotopes included, and CPU seconds."""
    start, kappas = time.process_time(), []
    program.mesh_numbers = MESH
    with contextlib.redirect_stdout(io.StringIO()):
        program.init_phph_interaction()
        for is_lbte in (False, True):
            program.run_thermal_conductivity(temperatures=[TEMPERATURE_K], is_LBTE=is_lbte, is_isotope=True)
            kappas.append(float(numpy.ravel(program.thermal_conductivity.kappa)[:3].mean()))
    return *kappas, time.process_time() - start


def own_conductivity(data, second, third):
    """The same by this project's solver."""
    start = time.process_time()
    solution = solve(data.crystal, second, third, MESH, Settings(temperatures_k=(TEMPERATURE_K,)),
                     correction=lambda *of: GonzeCorrection(*of, data.born, data.dielectric))  # fmt: skip
    return *(numpy.trace(x[0].kappa) / 3 for x in (solution.rta, solution.full)), time.process_time() - start


def largest_difference(data, second, program):
    """Of the frequencies at ``POINTS``, relative, the acoustic ones at Gamma left out; and the lowest optical ones."""
    points = numpy.array(list(POINTS.values()))
    own_points = points @ numpy.linalg.inv(program.primitive.cell).T @ data.crystal.cell.T
    ours = frequencies_thz(
        DynamicalMatrix(data.crystal, second, dipole_correction(data.crystal, (data.born, data.dielectric))), own_points
    )
    theirs = frequencies(program, points)
    some = theirs > 0.5
    return numpy.abs(ours[some] / theirs[some] - 1).max(), ours[0, 3], theirs[0, 3]


def main():
    """Print both tables."""
    kappa_rows = []
    print("| | Gamma optical, X, L, W: largest difference to phono3py with symfc | Gamma optical TO, THz |")
    print("|---|---|---|")
    for name, file in FILES.items():
        path = reference_folder() / "displaced_supercells" / file
        data, second, third = fit(path)
        program = phono3py_of(path)
        worst, own, their = largest_difference(data, second, program)
        print(f"| {name} | {100 * worst:.3f} % | {own:.4f}, {their:.4f} |", flush=True)
        mixed = to_phono3py(data.crystal, second, third)
        mixed.nac_params = program.nac_params | {"born": data.born}  # in the order of this primitive cell's atoms
        kappa_rows.append((name, "these constants, this solver", *own_conductivity(data, second, third)))
        kappa_rows.append((name, "these constants, phono3py", *conductivity(mixed)))
        kappa_rows.append((name, "symfc's constants, phono3py", *conductivity(program)))
    print(f"\n| | {MESH[0]}^3 mesh, {TEMPERATURE_K:.0f} K | relaxation time, W/m/K | full, W/m/K | CPU s |")
    print("|---|---|---|---|---|")
    for name, how, rta, full, seconds in kappa_rows:
        print(f"| {name} | {how} | {rta:.3f} | {full:.3f} | {seconds:.1f} |")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
