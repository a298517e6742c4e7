"""The committee: forces of several members, and how far they disagree."""

import numpy

from phonoscreen.audit.errors import StudyError
from phonoscreen.forcefield.model import load_model

BATCH_ENVIRONMENTS = 2048


class Committee:
    """Models of one architecture and different weights.

    Parameters
    ----------
    members : list of ``ForceModel``

    Raises
    ------
    StudyError
        If there are no members or they differ in kind or settings.
    """

    def __init__(self, members):
        if not members or any((m.kind, m.settings) != (members[0].kind, members[0].settings) for m in members):
            raise StudyError(
                "a committee needs members of one kind with the same settings",
                where="Committee",
                fix="train them again",
            )
        self.members = list(members)
        self.cutoff_angstrom = members[0].cutoff_angstrom

    @classmethod
    def load(cls, weights_paths, settings_paths, device="auto"):
        """Return the committee stored in safetensors and JSON files, in this order."""
        return cls([load_model(*paths, device) for paths in zip(weights_paths, settings_paths, strict=True)])

    def forces(self, neighbourhoods):
        """Return the forces of every member, (n_members, n_centres, 3), eV/angstrom."""
        description = self.members[0].describe(neighbourhoods)
        return numpy.array([member.predict(description).detach().cpu().numpy() for member in self.members], dtype=float)

    def supercell_forces(self, supercells):
        """Return the forces of every member on every displaced supercell of a structure.

        Parameters
        ----------
        supercells : ``phonoscreen.forcefield.dataset.Supercells``

        Returns
        -------
        (n_members, n_supercells, n_atoms, 3) eV/angstrom
        """
        neighbours = supercells.neighbours(self.cutoff_angstrom)
        together = max(1, BATCH_ENVIRONMENTS // supercells.n_atoms)
        forces = numpy.empty((len(self.members), *supercells.displacements.shape))
        for begin in range(0, len(supercells.displacements), together):
            part = slice(begin, begin + together)
            neighbourhoods = [neighbours.displaced(displacement) for displacement in supercells.displacements[part]]
            chunk = self.forces(type(neighbourhoods[0]).concatenate(neighbourhoods))
            forces[:, part] = chunk.reshape(len(self.members), len(neighbourhoods), supercells.n_atoms, 3)
        return forces

    def residual_forces(self, supercells):
        """Return each member's forces on the undisplaced supercell, (n_members, n_atoms, 3), eV/angstrom.

        Only the atoms of one primitive cell are computed; the others are their translations.
        """
        crystal = type(supercells)(
            supercells.crystal, numpy.ones(3, int), numpy.zeros((1, len(supercells.crystal.numbers), 3))
        )
        forces = self.supercell_forces(crystal)[:, 0]
        return numpy.tile(forces, (1, int(numpy.prod(supercells.repetitions)), 1))


def uncertainty(forces):
    """Disagreement of the committee about the force on each atom.

    ``epsilon_i = sqrt(mean over members of |f_i^m - mean f_i|^2)``, Eq. (3) of Rodriguez et al., Commun. Mater. 4, 61
    (2023).

    Parameters
    ----------
    forces : (n_members, ..., n_atoms, 3)

    Returns
    -------
    (..., n_atoms) in the unit of the forces

    Raises
    ------
    StudyError
        If there are fewer than two members.
    """
    forces = numpy.asarray(forces, dtype=float)
    if len(forces) < 2:
        raise StudyError(
            "one model cannot disagree", where="uncertainty", fix="set force_model.committee to at least 2"
        )
    return numpy.sqrt(((forces - forces.mean(axis=0)) ** 2).sum(axis=-1).mean(axis=0))
