"""Command ``phonoscreen screen STRUCTURES``: from structures to phonons and thermal conductivity, with uncertainty.

Each structure is relaxed, displaced, fitted, judged and solved as in a study; the folder that is written holds one row
per structure, and goes on where it was interrupted.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from phonoscreen.commands.fit_options import count

SCREENING = {
    "supercell": {"min_length_angstrom": 11.0, "network_oversampling": 8, "network_min": 6},
    "transport": {"mesh_density_angstrom": 40, "committee_mesh_density_angstrom": 20},
}
"""What a screening changes in the defaults of a study (``config.yaml``): forces of a model have no noise."""

CURVE_K = (100.0, 150.0, 200.0, 300.0, 400.0, 500.0, 700.0, 1000.0)
"""Temperatures of the plotted conductivities."""

SECTIONS = ("seed", "filter", "relax", "supercell", "force_constants", "stability", "transport")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the main command line."""
    parser = subparsers.add_parser(
        "screen", help="phonons and thermal conductivity of structures from a published model", description=__doc__
    )
    parser.add_argument("structures", nargs="*", metavar="STRUCTURES",
                        help="files (CIF, POSCAR, extended XYZ), folders, or FORMULA:STRUCTURE_TYPE such as "
                        "NaCl:rocksalt")  # fmt: skip
    parser.add_argument("--formulas", metavar="FILE", help="list of formulas, one a line")
    parser.add_argument("--structure-type", metavar="NAME", help="of the formulas that name none, such as rocksalt")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--model", help="folder of a published model (default: the one that comes with the repository)")
    source.add_argument("--potential", metavar="NAME",
                        help="instead of a model: 7net-0, 7net-l3i5, chgnet, nequix-oam-1-pft, or module:Class of an "
                        "ASE calculator")  # fmt: skip
    source.add_argument("--forces", metavar="FOLDER",
                        help="instead of a model: displaced supercells with forces, a folder or file for each "
                        "structure with its id as the name")  # fmt: skip
    parser.add_argument("--potential-arguments", type=_json_object, metavar="JSON",
                        help="keyword arguments of an ASE calculator")  # fmt: skip
    parser.add_argument("--temperature", type=float, metavar="K", help="of all properties (default 300)")
    parser.add_argument("--settings", metavar="FILE",
                        help="YAML with sections of config.yaml: relax, supercell, force_constants, ...")  # fmt: skip
    parser.add_argument("--output", default="screen", metavar="FOLDER", help="where results go (default: screen)")
    parser.add_argument(
        "--plots", action="store_true", help="band structure and conductivity against temperature of each, as PNG"
    )
    parser.add_argument("--write", nargs="+", choices=("shengbte", "phonopy"), default=[],
                        help="input files of other programs for each structure")  # fmt: skip
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="of the model")
    parser.add_argument("--top", type=count, default=10, metavar="N", help="structures in the ranking that is printed")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Screen the structures; return 0 where every structure was judged, 1 where rows failed, 130 if interrupted."""
    import h5py
    import yaml
    from threadpoolctl import threadpool_limits

    from phonoscreen.analysis.ranking import lines_of_ranking
    from phonoscreen.audit.shipped import shipped
    from phonoscreen.stages.screening import Screening
    from phonoscreen.stages.screening_folder import ScreeningFolder, screen
    from phonoscreen.stages.screening_sources import read_candidates
    from phonoscreen.workflow.code import code_of

    settings, wanted = _settings(arguments), {*arguments.write, *(["plots"] if arguments.plots else [])}
    with open(shipped("resources/prototypes.yaml")) as stream:
        types = yaml.safe_load(stream)["structure_types"]
    candidates, files = read_candidates(
        arguments.structures, types, arguments.formulas, arguments.structure_type, arguments.output
    )
    complete = _with_curve(settings, wanted)
    forces = _forces(arguments, complete, files)
    origin = {"forces": {"name": forces.name, "digest": forces.digest}, "settings": settings}
    # Small crystals: threads of the linear algebra would only wait for each other.
    with threadpool_limits(1), h5py.File("bases", "w", driver="core", backing_store=False) as bases:
        code = code_of("phonoscreen/stages/screening.py", "phonoscreen/stages/screening_forces.py",
                       "phonoscreen/stages/screening_table.py")  # fmt: skip
        screening = forces if arguments.forces is not None else Screening(forces, complete, bases, types)
        with ScreeningFolder(arguments.output, origin, code) as folder:
            try:
                table = screen(
                    candidates, screening, folder, {"forces": forces.name, "forces_digest": forces.digest},
                    calibration=forces.calibration, wanted=wanted,
                    write_extras=(lambda *of: _write_extras(wanted, settings, *of)) if wanted else None, say=_say,
                )  # fmt: skip
            except KeyboardInterrupt:
                print("phonoscreen: interrupted; the same call goes on where this one stopped", file=sys.stderr)
                return 130
    print(*lines_of_ranking(table, arguments.top), sep="\n")
    print(f"{arguments.output}/screen.csv and screen.parquet: {len(table)} structures")
    return 1 if (table["status"] == "failed").any() else 0


def _json_object(text):
    """Keyword arguments as JSON."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"{text!r} names no arguments; give for example '{{\"sigma\": 3.4}}'")
    return found


def _say(line):
    print(line, flush=True)


def _settings(arguments):
    """Return the sections of the settings that decide the results."""
    from phonoscreen.audit.errors import StudyError
    from phonoscreen.workflow.settings.check import check_settings

    given: Any = {}
    if arguments.settings is not None:
        import yaml

        from phonoscreen.workflow.settings.files import check_files

        check_files([arguments.settings])
        try:
            given = yaml.safe_load(Path(arguments.settings).read_text()) or {}
        except OSError as error:
            raise StudyError(f"{arguments.settings} cannot be read: {error}", where="--settings",
                             fix="check its name") from error  # fmt: skip
        wrong = sorted(set(given) - set(SECTIONS)) if isinstance(given, dict) else ["no sections"]
        if wrong:
            raise StudyError(f"{arguments.settings}: {', '.join(map(str, wrong))} has no effect on a screening",
                             where="--settings", fix=f"give sections among {', '.join(SECTIONS)}")  # fmt: skip
    merged = {name: _merged(SCREENING.get(name, {}), given.get(name)) for name in {**SCREENING, **given}}
    if arguments.temperature is not None and isinstance(merged["transport"], dict):
        merged["transport"]["temperature_k"] = arguments.temperature
    complete = check_settings(merged)
    if complete["transport"]["solver"] != "native":
        raise StudyError("a screening solves with its own engine only", where="transport/solver",
                         fix="leave transport.solver out, and export files with --write")  # fmt: skip
    if complete["force_constants"]["learning_curve"]:
        raise StudyError("a screening makes no learning curves", where="force_constants/learning_curve",
                         fix="leave it out; phonoscreen fit has --learning-curve")  # fmt: skip
    return {name: complete[name] for name in SECTIONS}


def _merged(ours, theirs):
    """Return a section with the user's settings on top; what is no section goes to the check as it is."""
    return {**ours, **(theirs or {})} if isinstance(theirs, dict | None) else theirs


def _with_curve(settings, wanted):
    """Return the settings with the temperatures of the plots."""
    if "plots" not in wanted:
        return settings
    return {**settings, "transport": {**settings["transport"], "curve_temperatures_k": CURVE_K}}


def _forces(arguments, settings, files):
    """Return where the forces come from."""
    from phonoscreen.audit.errors import StudyError
    from phonoscreen.stages import screening_forces

    if arguments.potential_arguments is not None and arguments.potential is None:
        raise StudyError("--potential-arguments without --potential", where="phonoscreen screen",
                         fix="give --potential module:Class too")  # fmt: skip
    if arguments.forces is not None:
        return screening_forces.LabelledScreening(arguments.forces, settings, files)
    if arguments.potential is not None:
        from phonoscreen.reference.named import engine_of_name

        engine = engine_of_name(arguments.potential, arguments.potential_arguments)
        digest = "" if arguments.potential_arguments is None else json.dumps(arguments.potential_arguments)
        return screening_forces.EngineForces(engine, digest)
    import torch

    from phonoscreen.forcefield.publish import default_model_path, load_published

    torch.set_num_threads(1)  # small crystals: threads of their own would only wait
    model = default_model_path() if arguments.model is None else arguments.model
    return screening_forces.ModelForces(*load_published(model, arguments.device))


def _write_extras(wanted, settings, folder, candidate, progress):
    """Write plots and files of other programs of one structure."""
    task = progress.task
    if "plots" in wanted and "band/distances" in progress.arrays:
        from phonoscreen.figures import screened

        title = f"{progress.values['formula']} ({candidate.structure_id})"
        screened.write_png(screened.draw_bands(progress.arrays, title), folder / "bands.png")
        if "curve/temperatures_k" in progress.arrays:
            screened.write_png(screened.draw_conductivity(progress.arrays, title), folder / "kappa.png")
    if "shengbte" in wanted and task.third is not None:
        from phonoscreen.crystal.mesh import automatic_mesh
        from phonoscreen.formats.shengbte import write_directory

        transport = settings["transport"]
        born, epsilon = task.charges or (None, None)
        (folder / "shengbte").mkdir()
        write_directory(
            task.crystal, task.second, task.third, folder / "shengbte", born=born, epsilon=epsilon,
            mesh=automatic_mesh(task.crystal, transport["mesh_density_angstrom"]),
            temperature_k=transport["temperature_k"],
        )  # fmt: skip
    if "phonopy" in wanted:
        from phonoscreen.formats.constants_folder import write_constants

        write_constants(task.crystal, task.second, task.third, folder / "phonopy", dict(progress.values),
                        charges=task.charges)  # fmt: skip
