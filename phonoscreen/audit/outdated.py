"""Which expensive products were made with other settings or other code than the study has now."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.integrity import read_record
from phonoscreen.audit.lineage import read_provenance
from phonoscreen.audit.protected import PROTECTED
from phonoscreen.audit.provenance import FOLDER, has_storage, product_name
from phonoscreen.audit.remake import forcerun_command

HEAD = "Out of date, used as they are: made with other settings or other code than the study has now."


@dataclass(frozen=True)
class Outdated:
    """The product of one job, or some structures of it, made otherwise than it would be made now.

    Attributes
    ----------
    rule, files : of the job
    changes : by the name of a setting (``code`` for the code) its value then and now
    structures : how many of the shard's structures this concerns, None for a product that does not go by structures
    seconds : that the outdated part of the job took
    """

    rule: str
    files: tuple
    changes: dict
    structures: int | None
    seconds: float


def find_outdated(current: dict, root: str | Path = ".", planned: set | None = None) -> list[Outdated]:
    """Compare the settings and the code that made the expensive products with the present ones.

    Parameters
    ----------
    current : settings by rule, see ``phonoscreen.workflow.protection.current_settings``
    root : folder of the study
    planned : products of the study; those of an earlier plan are left out. None: all

    Raises
    ------
    Nothing: a damaged provenance file is what ``phonoscreen verify`` names.
    """
    current, found = json.loads(json.dumps(current, default=str)), []
    for rule, settings in current.items():
        for path in sorted((Path(root) / FOLDER / rule).glob("*.json")):
            try:
                document = read_provenance(path)
            except StudyError:
                continue
            files = tuple(name for name in document["outputs"] if _is_there(name, root))
            if not files or (planned is not None and not planned & set(files)):
                continue
            whole = [{"settings": document["settings"], "structures": None, "seconds": document["seconds"]}]
            made_with = document.get("made_with")
            for part in whole if made_with is None else made_with:
                changes = _changes({name: part["settings"].get(name) for name in settings}, settings)
                if changes:
                    found.append(Outdated(rule, files, changes, part["structures"], part["seconds"]))
    return found


def _is_there(name: str, root: str | Path) -> bool:
    """Whether a product exists; of one in a storage Snakemake knows."""
    return has_storage() or os.path.exists(os.path.join(root, name))


def _changes(old: Any, new: Any, name: str = "") -> dict[str, tuple]:
    """Return by dotted name the values of two nested settings that differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        found: dict[str, tuple] = {}
        for key in sorted(set(old) | set(new)):
            found |= _changes(old.get(key), new.get(key), f"{name}.{key}" if name else key)
        return found
    return {} if old == new else {name: (old, new)}


def statement(outdated: list[Outdated]) -> str:
    """Return what a user reads at the start of a run: what is out of date, why, what it would cost, and the command.

    One paragraph for each kind of product and reason; empty if nothing is out of date.
    """
    groups: dict[tuple[str, str], list[Outdated]] = {}
    for product in outdated:
        groups.setdefault((product.rule, json.dumps(product.changes)), []).append(product)
    lines = []
    for (rule, changes), products in groups.items():
        structures = sum(product.structures or 0 for product in products)
        count = f"{len(products)} job(s)" + (f", {structures} structure(s)" if structures else "")
        why = ", ".join(_spelt(name, *values) for name, values in json.loads(changes).items())
        cost = _duration(sum(product.seconds for product in products))
        lines += [f"  {PROTECTED[rule]}: {count} of rule {rule}; changed since: {why}"]
        lines += [f"    to compute them again (about {cost}, and what follows from them): {forcerun_command(rule)}"]
    return "\n".join([HEAD, *lines]) if lines else ""


def _spelt(name: str, old: Any, new: Any) -> str:
    return "the code" if name == "code" else f"{name} ({json.dumps(old)} -> {json.dumps(new)})"


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def state(outdated: list[Outdated]) -> dict:
    """Return what the figures and the summary need to know, as JSON: by product its rule and what has changed."""
    found: dict[str, dict] = {}
    for product in outdated:
        for path in product.files:
            entry = found.setdefault(path, {"rule": product.rule, "changed": []})
            entry["changed"] = sorted({*entry["changed"], *product.changes})
    return found


def footnote(path: str, made_from: list, root: str | Path = ".") -> str:
    """Return the sentence that says which products below some files are out of date; empty if none is.

    Parameters
    ----------
    path : JSON file of ``state``
    made_from : files that a figure or a page is made from
    root : folder of the study
    """
    outdated = json.loads(Path(path).read_text())
    below = products_below(made_from, root) if outdated else set()
    why: dict[str, set] = {}
    for product in sorted(set(outdated) & below):
        why.setdefault(outdated[product]["rule"], set()).update(outdated[product]["changed"])
    if not why:
        return ""
    parts = [f"{PROTECTED[rule]} ({', '.join(sorted(why[rule]))})" for rule in PROTECTED if rule in why]
    return f"Out of date below this: {'; '.join(parts)}, made with other settings or code than the study has now."


def products_below(paths: list, root: str | Path = ".") -> set:
    """Return all products that some files were made from, directly or not, and these files."""
    pending, seen, documents = [product_name(path) for path in paths], set(), {}
    while pending:
        path = pending.pop()
        if path in seen:
            continue
        seen.add(path)
        try:
            record = read_record(path, root)
            if record and record.provenance not in documents:
                documents[record.provenance] = list(read_provenance(Path(root) / FOLDER / record.provenance)["inputs"])
                pending += documents[record.provenance]
        except StudyError:  # a damaged record is refused where the file is read
            continue
    return seen
