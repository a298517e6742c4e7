"""What made a result, from what, and whether it still matches."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.provenance import FOLDER, file_sha256


@dataclass
class Node:
    """One file of a lineage.

    Parameters
    ----------
    path : file, relative to the folder of the study
    state : "ok", "changed" (differs from what its job wrote), "missing", "source" (no job wrote it) or
        "stale" (a job used another version of it)
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
    """

    def __init__(self, root="."):
        self.root = Path(root)
        self.jobs, self._hashes = {}, {}
        for path in sorted((self.root / FOLDER).rglob("*.json")):
            document = json.loads(path.read_text())
            for output in document["outputs"]:
                self.jobs[output] = document

    def trace(self, path):
        """Return the tree of everything a result was made from.

        Parameters
        ----------
        path : a file under ``results``

        Returns
        -------
        Node

        Raises
        ------
        StudyError
            If neither a file nor a provenance record of that name exists.
        """
        if Path(path).is_absolute():
            path = os.path.relpath(path, self.root.resolve())
        name = os.path.normpath(path)
        if name not in self.jobs and not (self.root / name).exists():
            raise StudyError(
                f"nothing is known of {name}",
                where=f"{len(self.jobs)} recorded results",
                fix="give a path relative to the folder of the study, for example results/figures/figure4.pdf",
            )
        return self._node(name, None, set())

    def _node(self, name, used, seen):
        document = self.jobs.get(name)
        current = self._hash(name)
        if current is None:
            state = "missing"
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

    def _hash(self, name):
        if name not in self._hashes:
            path = self.root / name
            self._hashes[name] = file_sha256(path) if path.exists() else None
        return self._hashes[name]


def describe(node, depth=0):
    """Return the lines that show a lineage, and how many of its files do not match."""
    document = node.document
    line = f"{'  ' * depth}{node.path}  [{node.state}]"
    if document and not node.repeated:
        code = document["settings"].get("code", "-")
        line += f"  {document['rule']} {document['started']} {document['seconds']} s code {code}"
    elif node.repeated and document:
        line += "  (above)"
    lines, wrong = [line], node.state not in ("ok", "source")
    for child in node.inputs:
        more, bad = describe(child, depth + 1)
        lines.extend(more)
        wrong += bad
    return lines, int(wrong)


def details(document):
    """Return the lines with settings, packages and machine of one job."""
    settings = {key: value for key, value in document["settings"].items() if key != "code"}
    lines = ["settings:"] + [f"  {key}: {json.dumps(value)}" for key, value in sorted(settings.items())]
    lines += ["packages: " + ", ".join(f"{name} {version}" for name, version in document["packages"].items())]
    if document["packages_outside_environment"]:
        lines += ["taken from outside the rule's environment: " + ", ".join(document["packages_outside_environment"])]
    lines += ["machine: " + ", ".join(f"{key} {value}" for key, value in sorted(document["machine"].items()))]
    return lines


def add_parser(subparsers):
    """Add ``phonoscreen lineage`` to the command line."""
    parser = subparsers.add_parser("lineage", help="what made a result, from what, and whether it still matches")
    parser.add_argument("path", help="a file under results/")
    parser.set_defaults(run=run)


def run(arguments):
    """Print the lineage of a result; return 1 if any file of it does not match its record, else 0."""
    node = Lineage().trace(arguments.path)
    lines, wrong = describe(node)
    print("\n".join(lines))
    if node.document:
        print("\n" + "\n".join(details(node.document)))
    print(f"\n{wrong} file(s) do not match their record" if wrong else "\nevery file matches its record")
    return 1 if wrong else 0
