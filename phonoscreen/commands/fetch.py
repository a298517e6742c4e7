"""Command ``phonoscreen fetch ADDRESSES FOLDER``: archives of force sets, such as phononDB's, from their addresses.

ADDRESSES is an address of an archive (.zip, .tar.xz, …) or a text file that holds such addresses: a list, or phononDB's
own tables. A line may state the sha256 of its archive. Archives that are there are not fetched
again, one that broke off is continued. A study takes the folder with ``source: {kind: force_sets, path: FOLDER}``.
"""

import argparse
from pathlib import Path


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser("fetch", help="archives of force sets from their addresses", description=__doc__)
    parser.add_argument("addresses", help="an address, or a text file with addresses")
    parser.add_argument("folder", type=Path, help="where the archives go, and fetched.csv with their sha256")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="WORD", help="lines with such a word alone: mp-149, Si"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Fetch what is missing and print what could not be had."""
    from phonoscreen.audit.errors import StudyError
    from phonoscreen.formats.compressed import read_text
    from phonoscreen.structures.archive_downloads import addresses_in, choose, fetch_archives

    given = arguments.addresses
    if not given.startswith(("http://", "https://")):
        if not Path(given).is_file():
            raise StudyError("no such file", where=given, fix="give an address or a text file with addresses")
        given = read_text(given)
    found = addresses_in(given)
    if not found:
        raise StudyError("no address of an archive (.zip, .tar.xz, .tar.lzma, …)", where=arguments.addresses[:200],
                         fix="give the address of the archive itself")  # fmt: skip
    chosen = choose(found, arguments.only)
    failures = fetch_archives(chosen, arguments.folder)
    print(f"{len(chosen) - len(failures)} of {len(chosen)} archives are in {arguments.folder}")
    for url, reason in failures.items():
        print(f"  {url}: {reason}")
    return 1 if failures else 0
