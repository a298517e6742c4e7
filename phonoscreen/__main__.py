"""The command ``phonoscreen``."""

import argparse
import importlib
import sys

from phonoscreen.audit.errors import StudyError

COMMANDS = ("phonoscreen.audit.lineage", "phonoscreen.lattice.cli", "phonoscreen.transport.cli", "phonoscreen.forcefield.cli")


def main(argv=None):
    """Run one command; return its exit status (0 done, 1 the answer is no, 2 the request cannot be met)."""
    parser = argparse.ArgumentParser(prog="phonoscreen", description="Phonon properties of cubic crystals from learned forces.")
    subparsers = parser.add_subparsers(required=True, metavar="command")
    for name in COMMANDS:
        importlib.import_module(name).add_parser(subparsers)
    arguments = parser.parse_args(argv)
    try:
        return arguments.run(arguments)
    except StudyError as error:
        print(f"phonoscreen: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
