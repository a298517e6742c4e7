"""The command ``phonoscreen``."""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence

from phonoscreen import __version__
from phonoscreen.audit.atomic import leave_files_unlocked
from phonoscreen.audit.errors import MachineError, StudyError, machine_trouble

COMMANDS = {
    "lineage": ("phonoscreen.audit.lineage", "what made a result, from what, and whether it still matches"),
    "progress": ("phonoscreen.commands.progress", "how far a study is, and tables of what is there so far"),
    "verify": ("phonoscreen.audit.verify", "whether every product of a study is what its job wrote"),
    "retry": ("phonoscreen.audit.retry", "try failed structures again, by what was to blame"),
    "forecast": ("phonoscreen.workflow.forecast", "what a study will need, before it runs, and what it has used"),
    "fetch": ("phonoscreen.commands.fetch", "archives of force sets, such as phononDB's, from their addresses"),
    "fit": ("phonoscreen.commands.fit", "force constants of one crystal from displacements and forces"),
    "bte": ("phonoscreen.commands.bte", "phonon Boltzmann equation in a ShengBTE directory"),
    "export": ("phonoscreen.commands.export", "one structure of a study as input of ShengBTE and phono3py"),
    "screen": ("phonoscreen.commands.screen", "phonons and thermal conductivity of structures from a published model"),
    "confirm": ("phonoscreen.commands.confirm", "structures that a screening found, recomputed with a potential"),
    "train": ("phonoscreen.commands.train", "force model from kept labels, judged and published"),
    "bonding": ("phonoscreen.commands.bonding", "COHP of one crystal: bonds, curves, description, files as LOBSTER's"),
    "predict": ("phonoscreen.commands.predict", "forces of structures from a published model"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status.

    0: done, 1: the answer is no, 2: the request cannot be met, 130: interrupted, 141: nobody reads the output any more.
    """
    leave_files_unlocked()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal that has no κ must not end a screening
        sys.stdout.reconfigure(errors="backslashreplace")
    argv = sys.argv[1:] if argv is None else argv
    wanted = argv[0] if argv and argv[0] in COMMANDS else None
    parser = argparse.ArgumentParser(
        prog="phonoscreen", description="Phonon properties of cubic crystals from learned forces."
    )
    parser.add_argument("--version", action="version", version=f"phonoscreen {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="command")
    for name, (module, purpose) in COMMANDS.items():
        if name == wanted:  # the others stay unimported: each needs only its own packages
            importlib.import_module(module).add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=purpose)
    arguments = parser.parse_args(argv)
    try:
        code = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except (StudyError, MachineError) as error:
        print(f"phonoscreen: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of the output has seen enough, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("phonoscreen: interrupted", file=sys.stderr)
        return 130
    except OSError as error:  # a file that cannot be opened or written, wherever a command meets it
        what, fix = machine_trouble(error) or (
            str(error),
            "check the name, and that it is a file or folder as asked for",
        )
        named = f" ({error.filename})" if error.filename and str(error.filename) not in what else ""
        print(f"phonoscreen: {what}{named}\n  where: phonoscreen {wanted}\n  fix:   {fix}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
