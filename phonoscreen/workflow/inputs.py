"""Which files and settings a rule needs, where that depends on the settings of the study."""

import ast

from phonoscreen.workflow.code import ROOT

FIGURES = "phonoscreen/figures"


def source_files(source):
    """Return the input files of a study's source as a dict: a pool or a folder, nothing for a service."""
    return {"source": source["path"]} if source["kind"] in ("pool", "files") else {}


def engine_settings(reference, purpose):
    """Return the settings that decide a reference calculation, so that others rerun nothing.

    Parameters
    ----------
    reference : section ``reference`` of the settings
    purpose : ``"relax"`` or ``"supercell"``; decides which k spacing of a DFT engine counts

    Returns
    -------
    dict with ``engine, model`` and, for a DFT engine, ``command, cutoff_ev, k_spacing_per_angstrom``;
    for existing outputs, ``folder``
    """
    engine = reference["engine"]
    chosen = dict(reference[engine])
    spacings = {key: chosen.pop(key) for key in list(chosen) if key.startswith("k_spacing_")}
    if spacings:
        chosen["k_spacing_per_angstrom"] = spacings[f"k_spacing_{purpose}_per_angstrom"]
    return {"engine": engine, **chosen}


def transport_settings(config):
    """Return the section ``transport`` with the limit of imaginary frequencies, that of the stability check."""
    return {**config["transport"], "imaginary_threshold_thz": config["stability"]["imaginary_threshold_thz"]}


def model_settings(force_model):
    """Return the settings that decide a trained network; device and size of the committee do not."""
    kind = force_model["kind"]
    common = {key: force_model[key] for key in ("kind", "subtract_undisplaced", "dtype")}
    return {**common, **force_model[kind]}


def training_settings(training):
    """Return the settings that decide a training; the number of processes that share it does not."""
    return {key: value for key, value in training.items() if key != "processes"}


def augmentation(force_model):
    """Return how many times each environment is seen in training: its frames; an equivariant model needs one."""
    return force_model[force_model["kind"]].get("frames", 1)


def figure_names():
    """Return the names of the paper's figures: the modules ``figure*`` of ``phonoscreen.figures``."""
    return sorted(path.stem for path in (ROOT / FIGURES).glob("figure*.py"))


def tables_of_figure(name):
    """Return the names of the tables one figure is drawn from: the positional arguments of its ``draw``."""
    tree = ast.parse((ROOT / FIGURES / f"{name}.py").read_text())
    (draw,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "draw")
    return [argument.arg for argument in draw.args.args]
