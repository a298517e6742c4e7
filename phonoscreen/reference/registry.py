"""Which engines of reference forces there are; each is imported only when it is chosen."""

from phonoscreen.audit.errors import StudyError


def _potential(settings, threads, folder):
    from phonoscreen.reference.potentials import make_potential

    return make_potential(settings["engine"], settings["model"], threads)


def _nequix(settings, threads, folder):
    from phonoscreen.reference.nequix import NequixEngine

    return NequixEngine(settings["model"])


def _vasp(settings, threads, folder):
    from phonoscreen.reference.vasp import VaspEngine

    return VaspEngine(settings, folder)


def _gpaw(settings, threads, folder):
    from phonoscreen.reference.gpaw import make_gpaw

    return make_gpaw(settings, folder)


def _collected(settings, threads, folder):
    from phonoscreen.reference.collected import CollectedEngine

    return CollectedEngine(settings["folder"])


ENGINES = {
    "vasp": _vasp, "gpaw": _gpaw, "nequix": _nequix, "sevennet": _potential, "chgnet": _potential,
    "collected": _collected,
}  # fmt: skip


def make_engine(settings, threads, folder=None):
    """Return the engine of the settings, as ``phonoscreen.reference.base`` describes it.

    Parameters
    ----------
    settings : ``engine, model`` and what the engine needs besides, see ``phonoscreen.workflow.inputs.engine_settings``
    threads : threads the engine may use
    folder : where DFT codes run; each calculation gets its own folder there

    Raises
    ------
    StudyError
        If the engine is unknown or its package or executable is missing.
    """
    kind = settings["engine"]
    if kind not in ENGINES:
        raise StudyError(
            f"unknown reference engine {kind!r}", where="reference/engine", fix=f"use one of {', '.join(ENGINES)}"
        )
    return ENGINES[kind](settings, threads, folder)
