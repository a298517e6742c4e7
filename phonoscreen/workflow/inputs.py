"""Which files and settings a rule needs, where that depends on the settings of the study or on the machine."""

import ast
import hashlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

from phonoscreen.formats.file_kinds import structure_files
from phonoscreen.workflow.code import ROOT
from phonoscreen.workflow.shards import DFT_CODES

FIGURES = "phonoscreen/figures"
# What DFT codes leave beside the outputs that are read; large, and of no effect.
_LEFT_BESIDE = ("WAVECAR", "CHG", "LOCPOT", "PROCAR", "ELFCAR", "TMPCAR", "DOSCAR")


SERVICES = ("oqmd", "optimade")
"""Kinds of sources that are downloaded."""


FORCE_SETS = "results/force_sets"
"""Where the force sets of a study are collected."""


def source_files(source: dict) -> list[str]:
    """Return the input files of a study's source: the pool, the structure files of the folder, or the snapshot."""
    if source["kind"] in SERVICES:
        return [source["snapshot"]]
    if source["kind"] == "force_sets":
        return [f"{FORCE_SETS}/sets.h5", f"{FORCE_SETS}/calculations.parquet"]
    return [source["path"]] if source["kind"] == "pool" else [str(path) for path in structure_files(source["path"])]


def service_of(config: dict) -> list:
    """Return what decides the candidates besides the files of the source: its kind, and what a service is asked."""
    source = config["source"]
    asked = {"url": source["url"], "optimade": source["optimade"], "classes": config["filter"]["classes"]}
    return [source["kind"], asked if source["kind"] in SERVICES else None]


def to_download(source: dict) -> bool:
    """Return whether the snapshot of a service has yet to be made; once it exists no rule makes it again."""
    return source["kind"] in SERVICES and not Path(source["snapshot"]).exists()


def output_files(folder: Path | str | None) -> list[str]:
    """Return the files of a folder of existing outputs; hidden and backup files, densities and waves are left out.

    Parameters
    ----------
    folder : path, or None
    """
    found: list[str] = []
    if not folder:
        return found
    for path in sorted(Path(folder).rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") or part.endswith("~") for part in parts)
        if not hidden and not path.name.startswith(_LEFT_BESIDE) and path.is_file():
            found.append(str(path))
    return found


def output_folder(config: dict, kind: str) -> str | None:
    """Return the folder of existing outputs that a study reads, or None.

    Parameters
    ----------
    config : the settings of the study
    kind : ``"reference"``, ``"bonding"`` or ``"charges"``
    """
    if kind == "reference" and config["reference"]["engine"] == "force_sets":
        return FORCE_SETS
    if kind == "reference":
        collected = config["reference"]["engine"] == "collected"
        return config["reference"]["collected"]["folder"] if collected else None
    if kind == "charges":
        return config["charges"]["folder"] if config["charges"]["source"] == "files" else None
    return config["bonding"]["outputs"] if config["bonding"]["engine"] == "lobster" else None


def vasp_potentials(environment: Mapping[str, str] = os.environ) -> str:
    """Return what the machine has of VASP's potentials: a digest of their names, or why there are none.

    It stands beside the settings of the calculations: a potential or a variable that was missing makes them run again.
    """
    if not environment.get("VASP_PP_PATH"):
        return "VASP_PP_PATH is not set"
    folder = Path(environment["VASP_PP_PATH"]) / "potpaw_PBE"
    names = sorted(path.parent.name for path in folder.glob("*/POTCAR"))
    return hashlib.sha256("\0".join(names).encode()).hexdigest()[:16] if names else "no potpaw_PBE/*/POTCAR"


def engine_settings(reference: dict, purpose: str) -> dict:
    """Return the settings that decide a reference calculation, so that others rerun nothing.

    Parameters
    ----------
    reference : section ``reference`` of the settings
    purpose : ``"relax"`` or ``"supercell"``; decides which k spacing of a DFT engine counts

    Returns
    -------
    dict with ``engine, model`` and, for a DFT engine, ``command, cutoff_ev, k_spacing_per_angstrom``. The number of
    MPI processes and the folder of existing outputs are none of them.
    """
    engine = reference["engine"]
    chosen = {key: value for key, value in reference[engine].items() if key not in ("tasks", "folder")}
    if engine == "recorded":
        chosen["sha256"] = [digest_of_file(chosen[name]) for name in ("file", "relaxed")]
    relaxing = chosen.pop("cutoff_relax_ev", None)
    if relaxing is not None and purpose == "relax":
        chosen["cutoff_ev"] = relaxing
    spacings = {key: chosen.pop(key) for key in list(chosen) if key.startswith("k_spacing_")}
    if spacings:
        chosen["k_spacing_per_angstrom"] = spacings[f"k_spacing_{purpose}_per_angstrom"]
    return {"engine": engine, **chosen}


def engine_code(config: dict) -> str:
    """Return the file of the reference engine, of which alone the code counts where reference forces are computed."""
    return f"phonoscreen/reference/{config['reference']['engine']}.py"


def model_code(config: dict) -> str:
    """Return the file of the kind of force model, of which alone the code counts where it is trained or used."""
    return f"phonoscreen/forcefield/models/{config['force_model']['kind']}.py"


CHARGES_CODES = ("gpaw", "vasp")
"""Engines that calculate Born charges."""


def charges_settings(config: dict) -> dict:
    """Return the settings that decide the Born charges of a study; those of the reference where it calculates them."""
    charges = config["charges"]
    if charges["source"] != "calculated":
        return {"source": charges["source"]}
    engine = engine_settings(config["reference"], "supercell")
    spacing = charges["k_spacing_per_angstrom"]
    return {**engine, "source": "calculated", "charges": True, "k_spacing_per_angstrom": spacing}


def charges_code(config: dict) -> list[str]:
    """Return the file of the engine that calculates Born charges, of which alone the code counts there."""
    calculated = config["charges"]["source"] == "calculated"
    return [f"phonoscreen/reference/{config['reference']['engine']}_charges.py"] if calculated else []


def relaxing_settings(config: dict) -> dict:
    """Return the settings of the engine that relaxes, as ``engine_settings`` does: ``relax.engine`` chooses it."""
    engine = config["relax"]["engine"]
    if engine == "published":
        return {"engine": engine, "model": config["relax"]["published_model"]}
    chosen = config["reference"] if engine == "reference" else {**config["reference"], "engine": engine}
    return engine_settings(chosen, "relax")


def relaxation_limits(config: dict) -> dict:
    """Return the limits of the relaxation, without its engine."""
    return {key: value for key, value in config["relax"].items() if key not in ("engine", "published_model")}


def relaxing_files(config: dict) -> list[str]:
    """Return the files of the published model that relaxes; none for another engine."""
    if config["relax"]["engine"] != "published":
        return []
    folder = Path(config["relax"]["published_model"])
    return [str(folder / "model.json"), *map(str, sorted(folder.glob("member*.safetensors")))]


def relaxing_code(config: dict) -> list[str]:
    """Return the files of the engine that relaxes, of which alone the code counts there.

    For a published model the base of the engines of the reference is named too, so that none of these engines counts.
    """
    engine = relaxing_settings(config)["engine"]
    if engine == "published":
        return ["phonoscreen/forcefield/engine.py", "phonoscreen/reference/base.py"]
    return [f"phonoscreen/reference/{engine}.py"]


def relaxing_environment(config: dict) -> str:
    """Return the environment file (for a rule) of the engine that relaxes."""
    settings = relaxing_settings(config)
    return "../envs/forcefield.yaml" if settings["engine"] == "published" else engine_environment(settings)


def machine_state(reference: dict) -> list | None:
    """Return what the engine finds on this machine, None for one that brings all it needs.

    Another state runs the calculations again that failed or were missing; what was computed stays.
    """
    if reference["engine"] not in DFT_CODES:
        return None
    state = [
        vasp_potentials() if reference["engine"] == "vasp" else None,
        reference["mode"],
        digest_of_file(reference["calculations"]),
    ]
    return [*state, _brought_back()] if reference["mode"] == "collect" else state


def _brought_back(folder: Path = Path("results/work/inputs")) -> str:
    """Return a digest of the outputs that wait to be collected, so that those which come later are collected too."""
    found = []
    for place in sorted(folder.glob("*/*/*")):
        if place.is_dir():
            times = [entry.stat().st_mtime_ns for entry in os.scandir(place)]
            found.append(f"{place} {len(times)} {max(times, default=0)}")
    return hashlib.sha256("\n".join(found).encode()).hexdigest()


def how_to_calculate(reference: dict) -> dict:
    """Return what decides where the calculations of a DFT code come from, and no number of them."""
    return {key: reference[key] for key in ("mode", "calculations")}


def digest_of_file(path: str | None) -> str | None:
    """Return the sha256 of a file, None where none is named or there is none."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path and Path(path).is_file() else None


def engine_environment(reference: dict) -> str:
    """Return the environment file (for a rule) of the reference engine: one of its own name if there is one."""
    engine = reference["engine"]
    return f"../envs/{engine if (ROOT / f'envs/{engine}.yaml').exists() else 'reference'}.yaml"


def transport_settings(config: dict) -> dict:
    """Return the settings that decide the transport, with the limit of imaginary frequencies of the stability check.

    Memory and MPI processes are none of them, and the command only where ShengBTE solves.
    """
    transport = {key: value for key, value in config["transport"].items() if key not in ("memory_gib", "tasks")}
    if transport["solver"] != "shengbte":
        del transport["command"]
    return {**transport, "imaginary_threshold_thz": config["stability"]["imaginary_threshold_thz"]}


def model_settings(force_model: dict) -> dict:
    """Return the settings that decide a trained network; device and size of the committee do not."""
    kind = force_model["kind"]
    common = {key: force_model[key] for key in ("kind", "subtract_undisplaced", "dtype")}
    return {**common, **force_model[kind]}


def published_member(folder: str | None, member: int) -> list[str]:
    """Return weights and settings of a published model that a member begins with, [] without such a model."""
    if not folder:
        return []
    there = sorted(map(str, Path(folder).glob("member*.safetensors")))
    named = f"{folder}/member{member}.safetensors"
    weights = there[member % len(there)] if there and named not in there else named
    return [weights, f"{folder}/model.json"]


def published_compounds(folder: str | None) -> list[str]:
    """Return the list of the compounds that a published model has learned from; [] without a model, or a list."""
    path = Path(folder or "", "compounds.csv")
    return [str(path)] if folder and path.is_file() else []


def training_settings(training: dict) -> dict:
    """Return the settings that decide a training.

    The number of processes that share it does not, nor does the folder of a published model: its files are inputs.
    """
    return {key: value for key, value in training.items() if key not in ("processes", "pretrained")}


def augmentation(force_model: dict) -> int:
    """Return how many times each environment is seen in training: its frames; an equivariant model needs one."""
    return force_model[force_model["kind"]].get("frames", 1)


def figure_names() -> list[str]:
    """Return the names of the paper's figures: the modules ``figure*`` of ``phonoscreen.figures``."""
    return sorted(path.stem for path in (ROOT / FIGURES).glob("figure*.py"))


def tables_of_figure(name: str) -> list[str]:
    """Return the names of the tables one figure is drawn from: the positional arguments of its ``draw``."""
    tree = ast.parse((ROOT / FIGURES / f"{name}.py").read_text())
    (draw,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "draw")
    return [argument.arg for argument in draw.args.args]


def bonding_program(engine: str) -> bool:
    """Return whether the program of ``bonding.engine`` is installed; one that was missing makes the stage run again."""
    return importlib.util.find_spec(engine) is not None if engine in ("gpaw", "tblite") else True
