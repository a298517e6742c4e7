"""Which compounds a point of the learning curve is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.seeds import derive_seed

if TYPE_CHECKING:
    import pandas


def training_order(classes: Mapping[str, str], seed: int) -> list[str]:
    """Order compounds so that the first n of them hold every class in proportion, for any n.

    The members of each class, in an order drawn by seed, are spread evenly over (0, 1); the order along that line is
    the result. Subsets of one seed are nested.

    Parameters
    ----------
    classes : dict from structure id to class
    seed : decides the order inside the classes and where each class begins

    Returns
    -------
    list of structure ids
    """
    members: dict[str, list[str]] = {}
    for structure_id in sorted(classes, key=lambda name: derive_seed(seed, name, "training_order")):
        members.setdefault(classes[structure_id], []).append(structure_id)
    places = {}
    for name, ids in members.items():
        start = derive_seed(seed, name, "training_order") / 2**63
        places.update({one: (number + start) / len(ids) for number, one in enumerate(ids)})
    return sorted(places, key=places.__getitem__)


def first_compounds(classes: Mapping[str, str], size: int, seed: int) -> list[str]:
    """Return the first ``size`` compounds of the order of ``training_order``.

    Raises
    ------
    StudyError
        If there are fewer.
    """
    if size > len(classes):
        raise StudyError(
            f"{size} compounds to train on wanted, {len(classes)} labelled", where="experiment.learning_curve",
            fix="lower the size, or enlarge the pool",
        )  # fmt: skip
    return training_order(classes, seed)[:size]


def training_for_size(training: Mapping[str, Any], size: int, largest: int) -> dict[str, Any]:
    """Return the section ``training`` with more epochs for a smaller training set.

    Epochs grow as the square root of largest over size, so that few compounds are not trained with few steps only;
    early stopping ends what is too long.

    Parameters
    ----------
    training : section ``training``, whose epochs are those of the largest training set
    size, largest : compounds
    """
    return {**training, "epochs": round(training["epochs"] * (largest / size) ** 0.5)}


def compounds_to_predict(manifest: pandas.DataFrame, dataset: pandas.DataFrame, seed: int) -> dict[str, str]:
    """Return the compounds whose phonons are compared: those never seen, and as many of the known ones.

    Parameters
    ----------
    manifest : DataFrame with ``structure_id, part``
    dataset : table of ``assemble_dataset``, whose split ``training`` is known to the model
    seed : draws the known ones

    Returns
    -------
    dict from structure id to ``"unseen"`` or ``"known"``
    """
    unseen = manifest.loc[manifest["part"] == "validation", "structure_id"].tolist()
    known = dataset.loc[dataset["split"] == "training", "structure_id"]
    drawn = sorted(known, key=lambda name: derive_seed(seed, name, "known_compounds"))[: len(unseen)]
    return {**dict.fromkeys(unseen, "unseen"), **dict.fromkeys(drawn, "known")}
