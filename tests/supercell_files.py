"""One model crystal with known force constants, and its displaced supercells as other programs write them."""

import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from numpy.typing import ArrayLike, NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.supercell import supercell_cells
from phonoscreen.force_constants.basis import build_basis
from phonoscreen.force_constants.cutoffs import choose_cutoff
from phonoscreen.force_constants.fit_matrix import FitMatrix
from phonoscreen.formats.alamode import BOHR_ANGSTROM, RYDBERG_EV
from tests import prototype_crystals as prototypes

REPETITIONS = (2, 2, 2)


@dataclass
class Model:
    """Crystal, basis, parameters, and displaced supercells in the order of ``ase.Atoms.repeat``."""

    crystal: object
    basis: object
    parameters: numpy.ndarray
    displacements: numpy.ndarray
    forces: numpy.ndarray

    @property
    def unit_cell(self):
        """The crystal as ``ase.Atoms``."""
        own = self.crystal
        return Atoms(numbers=own.numbers, cell=own.cell, scaled_positions=own.scaled_positions, pbc=True)

    @property
    def supercell(self):
        """The perfect supercell."""
        return self.unit_cell.repeat(REPETITIONS)

    def snapshots(self):
        """The displaced supercells with forces."""
        frames = []
        for moves, forces in zip(self.displacements, self.forces):
            atoms = self.supercell
            atoms.positions += moves
            atoms.calc = SinglePointCalculator(atoms, forces=forces, energy=-1.0)
            frames.append(atoms)
        return frames


def make_model(amplitude=0.02, n_supercells=6, seed=0):
    """Rocksalt with random second- and third-order force constants."""
    crystal = prototypes.rocksalt()
    basis = build_basis(crystal, REPETITIONS, (None, choose_cutoff(crystal, REPETITIONS, 5.0).value_angstrom))
    rng = numpy.random.default_rng(seed)
    parameters = rng.normal(size=basis.n_free)
    displacements = amplitude * rng.normal(size=(n_supercells, basis.n_supercell_atoms, 3))
    return Model(crystal, basis, parameters, displacements, FitMatrix(basis).forces(displacements, parameters))


def write_dfset(path, model, comments=True):
    """ALAMODE's DFSET, compressed if the name ends so."""
    lines = []
    for number, (moves, forces) in enumerate(zip(model.displacements, model.forces), 1):
        lines += [f"# Filename: run{number}.xml, Snapshot: 1, E_pot (eV): -1.0"] if comments else []
        rows = numpy.concatenate([moves / BOHR_ANGSTROM, forces * BOHR_ANGSTROM / RYDBERG_EV], axis=1)
        lines += [" ".join(f"{x:.12e}" for x in row) for row in rows]
    text = "\n".join(lines) + "\n"
    if str(path).endswith(".xz"):
        Path(path).write_bytes(lzma.compress(text.encode()))
    else:
        Path(path).write_text(text)


def write_tdep(folder, model):
    """TDEP's infiles."""
    folder.mkdir(exist_ok=True)
    write(folder / "infile.ucposcar", model.unit_cell, format="vasp", direct=True)
    write(folder / "infile.ssposcar", model.supercell, format="vasp", direct=True, sort=True)
    order = numpy.argsort(model.supercell.get_chemical_symbols(), kind="stable")
    positions = [atoms.get_scaled_positions(wrap=True)[order] for atoms in model.snapshots()]
    numpy.savetxt(folder / "infile.positions", numpy.concatenate(positions), fmt="%.14f")
    numpy.savetxt(folder / "infile.forces", numpy.concatenate(model.forces[:, order]), fmt="%.14f")
    n_steps, n_atoms = model.forces.shape[:2]
    (folder / "infile.meta").write_text(f"{n_atoms}   # N atoms\n{n_steps}   # N timesteps\n1.0  # fs\n300.0  # K\n")
    numpy.savetxt(folder / "infile.stat", numpy.ones((n_steps, 13)))


def write_vasprun(path, atoms, electronic_steps=9):
    """A vasprun.xml as short as readers allow."""
    kinds = list(dict.fromkeys(atoms.get_chemical_symbols()))
    listed = "".join(f"<rc><c>{s}</c><c>{kinds.index(s) + 1}</c></rc>" for s in atoms.get_chemical_symbols())
    counts = [atoms.get_chemical_symbols().count(kind) for kind in kinds]
    types = "".join(
        f"<rc><c>{count}</c><c>{kind}</c><c>1.0</c><c>1.0</c><c>PAW {kind}</c></rc>"
        for count, kind in zip(counts, kinds)
    )

    def vectors(name, rows):
        inner = "".join("<v>" + " ".join(f"{x:.12f}" for x in row) + "</v>" for row in rows)
        return f'<varray name="{name}">{inner}</varray>'

    scaled = atoms.get_scaled_positions(wrap=True)
    cell = vectors("basis", atoms.cell.array)
    structure = f"<structure{{}}><crystal>{cell}</crystal>{vectors('positions', scaled)}</structure>"
    energy = '<energy><i name="e_fr_energy">-1.0</i><i name="e_wo_entrp">-1.0</i><i name="e_0_energy">-1.0</i></energy>'
    steps = f"<scstep>{energy}</scstep>" * electronic_steps
    Path(path).write_text(
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>\n<generator><i name="version">5.4.4</i></generator>'
        '<incar><i name="NELM">60</i><i name="EDIFF">1e-06</i></incar>'
        '<parameters><separator name="electronic"><i type="int" name="NELM">60</i><i name="EDIFF">0.00000100</i>'
        "</separator></parameters>"
        '<kpoints><generation param="Gamma"><v type="int" name="divisions">2 2 2</v></generation>'
        '<varray name="kpointlist"><v>0.0 0.0 0.0</v></varray><varray name="weights"><v>1.0</v></varray></kpoints>'
        f'<atominfo><atoms>{len(atoms)}</atoms><types>{len(kinds)}</types><array name="atoms"><set>{listed}</set>'
        "</array>"
        f'<array name="atomtypes"><set>{types}</set></array></atominfo>'
        + structure.format(' name="initialpos"')
        + f"<calculation>{steps}{structure.format('')}{vectors('forces', atoms.calc.results['forces'])}{energy}"
        "</calculation>" + structure.format(' name="finalpos"') + "\n</modeling>\n"
    )


def supercell_order(
    crystal: Crystal,
    repetitions: Sequence[int],
    cell: ArrayLike,
    positions: ArrayLike,
    numbers: ArrayLike | None = None,
    tolerance_angstrom: float = 0.3,
) -> NDArray:
    """Where each atom of this project's supercell stands in someone else's list of the same supercell.

    Parameters
    ----------
    crystal : ``Crystal``
    repetitions : (3,) integers
    cell : (3, 3) lattice vectors of the other supercell, angstrom; any vectors that span the same lattice
    positions : (n_supercell_atoms, 3) Cartesian positions there, angstrom
    numbers : (n_supercell_atoms,) atomic numbers there, if known

    Returns
    -------
    (n_supercell_atoms,) integers ``order`` with ``positions[order]`` in the order of ``ase.Atoms.repeat``

    Raises
    ------
    StudyError
        If the cells differ or an atom has no partner.
    """
    expected = crystal.cell * numpy.array(repetitions)[:, None]
    change = numpy.asarray(cell) @ numpy.linalg.inv(expected)
    whole = numpy.rint(change)
    if (
        numpy.abs((change - whole) @ expected).max() > 1e-3 * max(repetitions)
        or abs(round(numpy.linalg.det(whole))) != 1
    ):
        raise StudyError(
            f"the supercell's lattice vectors {numpy.round(cell, 4).tolist()} are not the crystal's repeated "
            f"{tuple(repetitions)} times {numpy.round(expected, 4).tolist()}",
            fix="give the primitive cell that was repeated, in the same orientation",
        )
    cells = supercell_cells(repetitions)
    scaled = (cells[:, None] + crystal.scaled_positions[None]).reshape(-1, 3) / numpy.array(repetitions)
    theirs = numpy.asarray(positions) @ numpy.linalg.inv(expected)
    if len(theirs) != len(scaled):
        raise StudyError(
            f"the supercell has {len(theirs)} atoms, {tuple(repetitions)} repetitions of the crystal {len(scaled)}",
            fix="give the cell and the repetitions that the supercells were made with",
        )
    order = numpy.empty(len(scaled), int)
    for a, point in enumerate(scaled):
        step = theirs - point
        distance = numpy.linalg.norm((step - numpy.rint(step)) @ expected, axis=1)
        order[a] = distance.argmin()
        if distance[order[a]] > tolerance_angstrom:
            raise StudyError(
                f"no atom within {tolerance_angstrom} angstrom of site {a} of the supercell "
                f"(nearest {distance[order[a]]:.2f})",
                fix="give the crystal that the supercells were made from",
            )
    if len(set(order.tolist())) != len(order):
        raise StudyError("two sites of the supercell found the same atom", fix="check the supercell's positions")
    if numbers is not None and not numpy.array_equal(
        numpy.asarray(numbers)[order], numpy.tile(crystal.numbers, len(cells))
    ):
        raise StudyError("the supercell holds other elements than the crystal", fix="check species and atom order")
    return order
