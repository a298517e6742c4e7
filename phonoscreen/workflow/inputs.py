"""Which files and settings a rule needs, where that depends on the settings of the study."""


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
    for existing outputs, ``collected``
    """
    settings = {key: reference[key] for key in ("engine", "model")}
    if settings["engine"] == "collected":
        settings["collected"] = reference["collected"]
    elif settings["engine"] in ("vasp", "gpaw"):
        settings["command"] = reference["command"]
        settings["cutoff_ev"] = reference["cutoff_ev"]
        settings["k_spacing_per_angstrom"] = reference[f"k_spacing_{purpose}_per_angstrom"]
    return settings


def model_settings(force_model):
    """Return the settings that decide a trained network; device and size of the committee do not."""
    return {key: value for key, value in force_model.items() if key not in ("device", "committee")}


def augmentation(force_model):
    """Return how many times each environment is seen in training: its frames; an equivariant model needs one."""
    return 1 if force_model["kind"] == "equivariant" else force_model["frames"]


def experiment_model(config, name):
    """Return the sections ``force_model`` and ``training`` of one model of the experiment.

    Parameters
    ----------
    config : the settings of the study
    name : of a model in ``experiment/models``
    """
    changes = config["experiment"]["models"][name]
    return {section: {**config[section], **changes[section]} for section in ("force_model", "training")}


def replayed_model(config):
    """Return the same of the model of ``experiment/selection``."""
    selection = config["experiment"]["selection"]
    model = experiment_model(config, selection["model"])
    return {**model, "training": {**model["training"], **selection["training"]}}


def ablations(config):
    """Return the trainings of the ablation, a list of dicts with ``model, change, force_model, training``."""
    trainings = []
    for name, changes in config["ablation"].items():
        model = experiment_model(config, name)
        for change in changes:
            changed = {s: {k: v for k, v in change.items() if k in model[s]} for s in ("force_model", "training")}
            sections = {section: {**model[section], **changed[section]} for section in changed}
            trainings.append({"model": name, "change": change, **sections})
    return trainings
