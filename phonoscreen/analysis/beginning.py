"""What the force model of a study had learned before the study began."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from phonoscreen.analysis.tables import paths_of, trained_structures

if TYPE_CHECKING:
    import pandas

    from phonoscreen.analysis.tables import Paths


def beginning(models: "Paths", compounds: "Paths", manifest: "pandas.DataFrame", reference: str) -> str:
    """Return sentences on the published model that round 0 begins with, empty where there is none.

    Parameters
    ----------
    models : path of its ``model.json``, or nothing
    compounds : path of the list of compounds that it has learned from, or nothing
    manifest : table with ``structure_id, formula, space_group_number`` of all structures of the study
    reference : name of the reference of the study (``phonoscreen.analysis.comparison.reference_name``)
    """
    models, compounds = paths_of(models), paths_of(compounds)
    if not models:
        return ""
    content = json.loads(Path(models[0]).read_text())
    text = (
        f"**The force model begins with a published one** ({Path(models[0]).parent.name}: {content['n_structures']:,} "
        f"structures with labels of {content['label_engine']}). "
    )
    if content["label_engine"].split(" ")[0] not in reference:
        text += (
            f"Those are other labels than the study's own, which are of {reference}: what the model learned before "
            "disagrees with what the rounds teach it and with what it is compared with here. "
        )
    if not compounds:
        return text + (
            "Which compounds it has learned from is not recorded: wherever this page says trained on or never seen, "
            "the rounds of this study alone are meant."
        )
    with open(compounds[0]) as stream:
        listed = sum(1 for _ in stream) - 1
    seen = len(trained_structures((), manifest, compounds))
    return text + (
        f"The {listed:,} compounds that it has learned from, those with forces of DFT among them, are listed beside "
        f"it, and {seen} of the {len(manifest)} structures of this study are among them. They count as trained on, as "
        "do those of the rounds of this study; no training has seen the others."
    )
