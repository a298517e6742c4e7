"""Which atom of a distorted supercell belongs to which site of the perfect one."""

from typing import Any

import numpy
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.supercell import supercell_cells

CELL_AGREEMENT_ANGSTROM = 0.01
"""Vectors of the same supercell, rounded in two files, agree within this."""

LARGEST_SHARE = 0.5
"""Largest displacement over the nearest-neighbour distance: beyond, an atom is nearer to no site of its own."""

LARGEST_RMS_SHARE = 0.25
"""The same for the root mean square; Lindemann's rule puts melting between 0.1 and 0.15."""

SHIFT_ANGSTROM = 1e-3
"""A common shift below this is rounding of coordinates."""

MOST_ATOMS = 6000


class SupercellSites:
    """Sites of a perfect supercell, to which atoms are assigned.

    Parameters
    ----------
    crystal : ``Crystal``
    repetitions : (3,) integers
    """

    def __init__(self, crystal: Crystal, repetitions: tuple[int, ...]):
        self.repetitions = tuple(int(n) for n in repetitions)
        cells = supercell_cells(self.repetitions)
        self.cell = crystal.cell * numpy.array(self.repetitions)[:, None]
        self.scaled = (cells[:, None] + crystal.scaled_positions[None]).reshape(-1, 3) / numpy.array(self.repetitions)
        self.numbers = numpy.tile(crystal.numbers, len(cells))
        self.n_primitive = len(crystal.numbers)
        self.nearest_angstrom = _nearest_neighbour(crystal)
        self._images = (numpy.array(list(numpy.ndindex(3, 3, 3))) - 1) @ self.cell
        faces = numpy.linalg.norm(numpy.cross(self.cell[[1, 2, 0]], self.cell[[2, 0, 1]]), axis=1)
        self._safe = abs(numpy.linalg.det(self.cell)) / faces.max() / 2
        self._trees: dict[int | None, Any] = {}
        self._last: NDArray | None = None

    def displacements(
        self, cell: NDArray, positions: NDArray, numbers: NDArray | None = None, where: str = "the supercell"
    ) -> tuple[NDArray, NDArray]:
        """Assign every site an atom of its element so that the sum of squared distances is smallest.

        A shift common to all atoms (another origin, a drift of the centre of mass) is found and taken off first.

        Parameters
        ----------
        cell : (3, 3) lattice vectors, angstrom; any that span the same lattice as the supercell's
        positions : (n_supercell_atoms, 3) Cartesian, angstrom
        numbers : (n_supercell_atoms,) atomic numbers, if known
        where : name of these atoms, for messages

        Returns
        -------
        order : (n_supercell_atoms,) ``positions[order]`` are in the order of ``ase.Atoms.repeat``
        displacements : (n_supercell_atoms, 3) of these atoms from their sites, angstrom

        Raises
        ------
        StudyError
            If cell, number of atoms or elements differ, or atoms are too far from the sites of this crystal.
        """
        same = self._check(cell, positions, numbers, where)
        # in units of the file's own vectors, which may differ from these by rounding
        theirs = numpy.asarray(positions, float) @ numpy.linalg.inv(numpy.asarray(cell, float)) @ same
        numbers = None if numbers is None else numpy.asarray(numbers)
        known = self._as_before(theirs, numbers)
        if known is not None:
            return known
        best: tuple[float, NDArray, NDArray] | None = None
        for shift in self._shifts(theirs, numbers):
            order, moves = self._settled(theirs, numbers, shift)
            cost = float((moves**2).sum())
            if best is None or cost < best[0] - 1e-9:
                best = cost, order, moves
            if numpy.linalg.norm(moves, axis=1).max() < LARGEST_SHARE / 2 * self.nearest_angstrom:
                break  # every atom is near its own site: no other origin can be better
        assert best is not None  # there is always a first shift
        _, order, moves = best
        self._judge(moves, where)
        self._last = order
        return order, moves

    def _as_before(self, theirs: NDArray, numbers: NDArray | None) -> tuple[NDArray, NDArray] | None:
        """The order of the supercell before, where each atom is nearer to its site than to any other, or None."""
        if self._last is None or (numbers is not None and (numbers[self._last] != self.numbers).any()):
            return None
        moves = self._step(theirs[self._last] - self.scaled)
        common = numpy.median(moves, axis=0)
        if numpy.linalg.norm(common) >= SHIFT_ANGSTROM:
            moves = self._step(theirs[self._last] - common @ numpy.linalg.inv(self.cell) - self.scaled)
        return (self._last, moves) if self._near(moves) else None

    def _settled(self, theirs: NDArray, numbers: NDArray | None, shift: NDArray) -> tuple[NDArray, NDArray]:
        """Assignment from a first shift on, the common shift of the assigned atoms taken off until it stays."""
        order, moves = self._assign(theirs - shift, numbers)
        for _ in range(20):
            common = numpy.median(moves, axis=0)
            if numpy.linalg.norm(common) < SHIFT_ANGSTROM:
                break
            shift = shift + common @ numpy.linalg.inv(self.cell)
            before, (order, moves) = order, self._assign(theirs - shift, numbers)
            if numpy.array_equal(before, order):
                break
        return order, moves

    def _check(self, cell, positions, numbers, where):
        """Refuse another supercell; return the integers by which its vectors are combined of these."""
        cell, positions = numpy.asarray(cell, float), numpy.asarray(positions, float)
        if len(positions) != len(self.scaled):
            raise StudyError(
                f"{where} has {len(positions)} atoms, {self.repetitions} repetitions of the crystal {len(self.scaled)}",
                fix="give the crystal that was repeated, and supercells of one kind",
            )
        if len(positions) > MOST_ATOMS:
            raise StudyError(
                f"{where} has {len(positions)} atoms, more than {MOST_ATOMS}", fix="use smaller supercells"
            )
        if not (numpy.isfinite(positions).all() and numpy.isfinite(cell).all()):
            raise StudyError(f"{where} has positions or lattice vectors that are not finite", fix="write it again")
        change = cell @ numpy.linalg.inv(self.cell)
        whole = numpy.rint(change)
        off = numpy.abs((change - whole) @ self.cell).max()
        if off > CELL_AGREEMENT_ANGSTROM or abs(round(numpy.linalg.det(whole))) != 1:
            raise StudyError(
                f"the supercell's lattice vectors {numpy.round(cell, 4).tolist()} of {where} are not the crystal's "
                f"repeated {self.repetitions} times {numpy.round(self.cell, 4).tolist()}",
                fix="give the crystal that was repeated, in the same orientation, and supercells of constant volume",
            )
        if numbers is not None and not numpy.array_equal(numpy.sort(numbers), numpy.sort(self.numbers)):
            raise StudyError(f"{where} holds other elements than the crystal", fix="check species and atom order")
        return whole

    def _shifts(self, theirs, numbers):
        """Shifts to try, as fractions of the supercell: none, then those that bring one atom to each like site."""
        yield numpy.zeros(3)
        kinds, counts = numpy.unique(self.numbers, return_counts=True)
        rare = kinds[counts.argmin()]
        atom = 0 if numbers is None else int(numpy.flatnonzero(numbers == rare)[0])
        for site in range(self.n_primitive):
            if numbers is None or self.numbers[site] == rare:
                yield theirs[atom] - self.scaled[site]

    def _assign(self, theirs: NDArray, numbers: NDArray | None) -> tuple[NDArray, NDArray]:
        """Order and displacements (Cartesian, minimum image) for given positions."""
        from scipy.optimize import linear_sum_assignment

        order = numpy.empty(len(theirs), int)
        for kind in [None] if numbers is None else numpy.unique(self.numbers):
            sites = numpy.arange(len(theirs)) if kind is None else numpy.flatnonzero(self.numbers == kind)
            atoms = numpy.arange(len(theirs)) if kind is None else numpy.flatnonzero(numbers == kind)
            inside = theirs[atoms] - numpy.floor(theirs[atoms])
            nearest = self._tree(kind, sites).query(inside @ self.cell)[1] % len(sites)
            if len(numpy.unique(nearest)) == len(sites):  # each atom has a nearest site of its own
                order[sites[nearest]] = atoms
                continue
            squared = numpy.empty((len(sites), len(atoms)))
            for some in numpy.array_split(numpy.arange(len(sites)), 1 + len(sites) * len(atoms) // 10**6):
                squared[some] = (self._step(theirs[atoms][None] - self.scaled[sites[some]][:, None]) ** 2).sum(axis=2)
            order[sites] = atoms[linear_sum_assignment(squared)[1]]
        return order, self._step(theirs[order] - self.scaled)

    def _tree(self, kind, sites):
        """Search tree of the sites of one element and their images around the supercell."""
        from scipy.spatial import cKDTree

        if kind not in self._trees:
            images = numpy.array(list(numpy.ndindex(3, 3, 3))) - 1
            inside = self.scaled[sites] - numpy.floor(self.scaled[sites])
            self._trees[kind] = cKDTree((images[:, None] + inside[None]).reshape(-1, 3) @ self.cell)
        return self._trees[kind]

    def _step(self, fraction: NDArray) -> NDArray:
        """Shortest Cartesian vector of fractional differences."""
        vectors = (fraction - numpy.rint(fraction)) @ self.cell
        far = (vectors**2).sum(axis=-1) > self._safe**2
        if far.any():
            some = vectors[far]
            best = some.copy()
            for image in self._images:  # rounded fractions give the shortest image inside the inscribed sphere only
                other = some + image
                nearer = (other**2).sum(axis=1) < (best**2).sum(axis=1) - 1e-9
                best[nearer] = other[nearer]
            vectors[far] = best
        return vectors

    def _near(self, moves: NDArray) -> bool:
        """Whether all atoms are near sites of their own."""
        squared = (moves**2).sum(axis=1) / self.nearest_angstrom**2
        return bool(squared.max() <= LARGEST_SHARE**2 and squared.mean() <= LARGEST_RMS_SHARE**2)

    def _judge(self, moves: NDArray, where: str) -> None:
        """Refuse atoms that have left their sites."""
        lengths = numpy.linalg.norm(moves, axis=1)
        rms, largest = float(numpy.sqrt((lengths**2).mean())), float(lengths.max())
        if self._near(moves):
            return
        away = int((lengths > LARGEST_SHARE * self.nearest_angstrom).sum())
        raise StudyError(
            f"{where}: the atoms are {rms:.2f} angstrom from the sites of the crystal in the root mean square, the "
            f"farthest {largest:.2f} (site {int(lengths.argmax())}), {away} of {len(lengths)} beyond half the "
            f"nearest-neighbour distance of {self.nearest_angstrom:.2f}",
            fix="give the crystal that the supercells were made from; leave out configurations that diffused or "
            "melted, they have no force constants",
        )


def _nearest_neighbour(crystal: Crystal) -> float:
    """Distance of the two nearest atoms of a crystal, angstrom."""
    step = (crystal.scaled_positions[:, None] - crystal.scaled_positions[None]).reshape(-1, 3)
    step -= numpy.rint(step)
    images = numpy.array(list(numpy.ndindex(5, 5, 5))) - 2
    lengths = numpy.linalg.norm((step[:, None] + images[None]) @ crystal.cell, axis=2)
    positive = lengths[lengths > 1e-3]
    if not len(positive) or (lengths < 1e-3).sum() > len(crystal.numbers):
        raise StudyError("two atoms of the crystal sit on each other", fix="check its positions")
    return float(positive.min())
