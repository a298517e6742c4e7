"""Which rules make the expensive products, and whether the running study was asked by name to make them anew.

Snakemake reads this file with the Snakefile, in every job: it imports nothing heavy.
"""

import json
import os
from collections.abc import Iterable

from phonoscreen.audit.provenance import product_name

VARIABLE = "PHONOSCREEN_ASKED"  # what the running study was asked for by name, handed down to its jobs
EVERYTHING = "*"
PROTECTED = {
    "relax_structures": "relaxed structures",
    "label_forces": "labels",
    "label_selected": "labels of selected supercells",
    "train_member": "members of the committee",
    "publish_model": "published model",
}
"""The rules of the expensive products, with the words for what they make."""
WHOLE = ("train_member", "publish_model")
"""Those of them that do not go structure by structure."""
UNWATCHED = {
    "relax_structures": ("code", "reference", "relax", "symmetry_tolerance_angstrom"),
    "label_forces": ("code", "reference"),
    "label_selected": ("code", "reference"),
    "train_member": ("code", "force_model", "training", "seed"),
    "publish_model": ("code", "licence"),
}
"""Parameters of these rules whose change is said, and recomputes nothing until it is asked for."""


def announce_asked(names: Iterable[str]) -> None:
    """Keep what this snakemake call forces by name, rules and files, for its jobs."""
    os.environ[VARIABLE] = json.dumps(sorted(set(map(str, names))))


def is_asked(rule: str, outputs: Iterable[str]) -> bool:
    """Return whether the running study was asked by name to compute a product anew."""
    names = set(json.loads(os.environ.get(VARIABLE, "[]")))
    return bool(names & {EVERYTHING, rule, *map(str, outputs), *map(product_name, outputs)})
