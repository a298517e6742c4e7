"""Command ``phonoscreen confirm TABLE FOLDER``: structures that a screening found, recomputed with a potential.

Solved structures that no model was trained on are drawn from the table of a screening: a number with a conductivity
below 1 W/m/K and as many others. Each is relaxed, displaced, fitted and solved with the potential, with the settings of
the screening. An interrupted call goes on where it stopped.
"""

import argparse
from pathlib import Path

from phonoscreen.commands.fit_options import count


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "confirm", help="structures that a screening found, recomputed with a potential", description=__doc__
    )
    parser.add_argument("table", help="Parquet file of a screening of the pool (snakemake --profile screening)")
    parser.add_argument("folder", help="where the results go")
    parser.add_argument("--potential", default="nequix-oam-1-pft", help="as in phonoscreen screen")
    parser.add_argument("--each", type=count, default=100, help="structures below 1 W/m/K, and as many others")
    parser.add_argument("--seed", type=int, default=61, help="of the draw")
    parser.add_argument("--write", type=Path, metavar="CSV", help="also write the compared conductivities there")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Recompute the drawn structures and print how many are confirmed."""
    from phonoscreen.audit.atomic import written_whole
    from phonoscreen.reference.named import engine_of_name
    from phonoscreen.stages.confirmed import compare, counts, sentences
    from phonoscreen.stages.screening_confirmation import confirm, draw
    from phonoscreen.stages.screening_product import read_product
    from phonoscreen.workflow.code import code_of

    table, origin = read_product(arguments.table)
    drawn = draw(table, arguments.each, arguments.seed)
    code = code_of("phonoscreen/stages/screening.py", "phonoscreen/stages/screening_forces.py")
    found = confirm(drawn, engine_of_name(arguments.potential), arguments.folder, origin["settings"], code)
    compared = compare(drawn, found)
    if arguments.write:
        arguments.write.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(arguments.write) as partial:
            compared.to_csv(partial, index=False, float_format="%.4g")
    print(*sentences(counts(compared)), sep="\n")
    return 0
