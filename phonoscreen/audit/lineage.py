"""What made a result, from what, and whether it still matches."""

import argparse
import json
import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.integrity import read_record
from phonoscreen.audit.provenance import FILES, FOLDER, file_sha256


@dataclass
class Node:
    """One file of a lineage.

    Parameters
    ----------
    path : file, relative to the folder of the study
    state : "ok", "changed" (differs from what its job wrote), "missing", "source" (no job wrote it), "without record"
        (a product, but no provenance file names it) or "stale" (a job used another version of it)
    document : provenance of the job that wrote it, None for a source
    inputs : nodes of the files that job read; empty where the same file was listed before
    repeated : whether this file was listed before
    """

    path: str
    state: str
    document: dict | None = None
    inputs: list = field(default_factory=list)
    repeated: bool = False


class Lineage:
    """Provenance of all jobs of a study.

    Parameters
    ----------
    root : folder of the study (the one that holds ``results``)

    Attributes
    ----------
    jobs : provenance by product
    read : hashes by file that jobs read
    damaged : provenance files that cannot be read or are not what their job wrote
    """

    def __init__(self, root: str | Path = ".") -> None:
        self.root = Path(root)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.read: dict[str, set[str]] = defaultdict(set)
        self.damaged: list[str] = []
        self._hashes: dict[str, str | None] = {}
        for path in sorted((self.root / FOLDER).rglob("*.json")):
            if (self.root / FILES) not in path.parents:
                try:
                    document = read_provenance(path)
                except StudyError:
                    self.damaged.append(str(path.relative_to(self.root)))
                else:
                    self.jobs.update(dict.fromkeys(document["outputs"], document))
                    for name, sha256 in document["inputs"].items():
                        self.read[self._name(name)].add(sha256)
        self.damaged += self._altered()

    def trace(self, path: str | Path) -> Node:
        """Return the tree of everything a result was made from.

        Parameters
        ----------
        path : a product, or a file that a job of the study read

        Returns
        -------
        Node

        Raises
        ------
        StudyError
            If the file belongs to another place, or no job wrote or read it.
        """
        name = self._name(path)
        product = name.startswith(f"{FOLDER.parent}{os.sep}") and (self.root / name).is_file()
        if name not in self.jobs and name not in self.read and not product:
            raise StudyError(
                f"nothing is known of {path}: no job of this study wrote it or read it",
                where=f"{len(self.jobs)} recorded results",
                fix="give a path relative to the folder of the study, for example results/figures/figure4.pdf",
            )
        used = self.read.get(name, set())
        current = self._hash(name)
        expected = None if name in self.jobs or not used else current if current in used else min(used)
        return self._node(name, expected, set())

    def _name(self, path: str | Path) -> str:
        """Return a path relative to the folder of the study."""
        root = self.root.resolve()
        return os.path.relpath(root / path, root)

    def _altered(self) -> list[str]:
        """Return the provenance files that differ from the hash that the records of their products hold."""
        altered = set()
        for name in self.jobs:
            try:
                record = read_record(name, self.root)
            except StudyError:
                continue
            if record:
                place = FOLDER / record.provenance
                if self._hash(str(place)) not in (None, record.provenance_sha256):
                    altered.add(str(place))
        return sorted(altered)

    def _node(self, name: str, used: str | None, seen: set[str]) -> Node:
        document = self.jobs.get(name)
        current = self._hash(name)
        if current is None:
            state = "missing"
        elif document is None and name.startswith(f"{FOLDER.parent}{os.sep}"):
            state = "without record"
        elif document is None:
            state = "source" if used in (None, current) else "changed"
        elif current != document["outputs"][name]:
            state = "changed"
        elif used not in (None, current):
            state = "stale"
        else:
            state = "ok"
        node = Node(name, state, document, repeated=name in seen)
        if document and name not in seen:
            seen.add(name)
            node.inputs = [self._node(child, sha, seen) for child, sha in sorted(document["inputs"].items())]
        return node

    def _hash(self, name: str) -> str | None:
        if name not in self._hashes:
            path = self.root / name
            self._hashes[name] = file_sha256(path) if path.exists() else None
        return self._hashes[name]


def read_provenance(path: str | Path) -> dict[str, Any]:
    """Return the contents of a provenance file.

    Raises
    ------
    StudyError
        If the file is damaged.
    """
    try:
        document = json.loads(Path(path).read_text())
        texts: dict[str, Any] = {
            "rule": str,
            "started": str,
            "settings": dict,
            "inputs": dict,
            "outputs": dict,
            "packages": dict,
        }
        texts |= {"packages": dict, "packages_outside_environment": list, "machine": dict, "wildcards": dict}
        texts |= {"seconds": (int, float)}
        wrong = [key for key, kind in texts.items() if not isinstance(document[key], kind)]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StudyError(f"{path} is damaged: {error}", fix="make the results it describes again") from error
    if wrong:
        raise StudyError(f"{path} is damaged: {', '.join(wrong)}", fix="make the results it describes again")
    return document


def describe(node: Node, depth: int = 0) -> tuple[list[str], int]:
    """Return the lines that show a lineage, and how many of its files do not match."""
    document = node.document
    line = f"{'  ' * depth}{node.path}  [{node.state}]"
    if document and not node.repeated:
        code = document["settings"].get("code", "-")
        line += f"  {document['rule']} {document['started']} {document['seconds']} s code {code}"
    elif node.repeated and document:
        line += "  (above)"
    lines, wrong = [line], int(node.state not in ("ok", "source"))
    for child in node.inputs:
        more, bad = describe(child, depth + 1)
        lines.extend(more)
        wrong += bad
    return lines, wrong


def details(document: dict[str, Any]) -> list[str]:
    """Return the lines with settings, packages and machine of one job."""
    settings = {key: value for key, value in document["settings"].items() if key != "code"}
    lines = ["settings:"] + [f"  {key}: {json.dumps(value)}" for key, value in sorted(settings.items())]
    lines += ["packages: " + ", ".join(f"{name} {version}" for name, version in document["packages"].items())]
    if document["packages_outside_environment"]:
        lines += ["taken from outside the rule's environment: " + ", ".join(document["packages_outside_environment"])]
    lines += ["machine: " + ", ".join(f"{key} {value}" for key, value in sorted(document["machine"].items()))]
    return lines


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``phonoscreen lineage`` to the command line."""
    parser = subparsers.add_parser("lineage", help="what made a result, from what, and whether it still matches")
    parser.add_argument("path", help="a file under results/")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the lineage of a result; return 1 if any file of it does not match its record, else 0."""
    lineage = Lineage()
    node = lineage.trace(arguments.path)
    lines, wrong = describe(node)
    print("\n".join(lines))
    if node.document:
        print("\n" + "\n".join(details(node.document)))
    for path in lineage.damaged:
        print(f"\ndamaged provenance file: {path}")
    if node.state == "source":
        print("\nno job of the study wrote this file; it is what the jobs read")
    elif node.state == "without record":
        print("\nno job of the study wrote this file, or the provenance file that says so is damaged")
    elif wrong:
        print(f"\n{wrong} file(s) do not match their record: phonoscreen verify prints how to make them again")
    else:
        print("\nevery file matches its record")
    return 1 if wrong or lineage.damaged else 0
