"""Which kinds of force model there are; each is imported only when it is chosen."""

import torch

from phonoscreen.audit.errors import StudyError


def _elemental_sdnnff():
    from phonoscreen.forcefield.models.elemental_sdnnff import ElementalSDNNFF

    return ElementalSDNNFF


def _equivariant():
    from phonoscreen.forcefield.models.equivariant import EquivariantPotential

    return EquivariantPotential


KINDS = {"equivariant": _equivariant, "elemental_sdnnff": _elemental_sdnnff}


def class_of(kind):
    """Return the class of a kind of force model.

    Raises
    ------
    StudyError
        If the kind is unknown.
    """
    if kind not in KINDS:
        raise StudyError(
            f"unknown kind of force model {kind!r}", where="force_model/kind", fix=f"use one of {', '.join(KINDS)}"
        )
    return KINDS[kind]()


def create_model(settings, seed):
    """Return a new model of ``settings["kind"]`` with weights drawn from ``seed``.

    Raises
    ------
    StudyError
        If the kind is unknown.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        return class_of(settings["kind"])(settings)
