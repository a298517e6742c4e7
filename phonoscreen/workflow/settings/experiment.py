"""Settings of the experiment on force models and of the ablation (docs/experiment_models.md)."""

from typing import Annotated, Any, Literal

from pydantic import Field

from phonoscreen.workflow.settings.fields import Natural, Section, Text, count, distinct
from phonoscreen.workflow.settings.study import Strategy, Study

Kind = Literal["equivariant", "elemental_sdnnff"]
Changes = dict[str, Any]


class ChangedModel(Section):
    """What one model of the experiment changes in two sections of the study."""

    force_model: Changes = {}
    """Settings of the section ``force_model``."""
    training: Changes = {}
    """Settings of the section ``training``."""


class Selection(Section):
    """Active learning replayed on labelled compounds."""

    model: Text = "equivariant"
    """Name of a model in ``experiment/models``."""
    training: Changes = {}
    """What it changes in that model's training."""
    strategies: distinct(Strategy, at_least=1) = ["worst_supercell", "diverse", "random"]
    """Strategies compared."""
    members: count(2, 20) = 3
    """Members of each committee."""
    compounds_start: Natural = 100
    """Compounds trained on at the start."""
    compounds_per_round: Natural = 100
    """Compounds added in each round."""
    rounds: count(1, 1000) = 5
    """Rounds."""
    repeats: count(1, 100) = 3
    """Repeats with other seeds."""


class Experiment(Section):
    """Learning curves of the force models."""

    scale: count(1, 1000) = 1
    """The curve goes on to this many times its last size (``make experiment-models SCALE=...``)."""
    models: Annotated[dict[Annotated[str, Field(pattern="^[a-z0-9_]+$")], ChangedModel], Field(min_length=1)] = {
        "elemental_sdnnff": ChangedModel(
            force_model={"kind": "elemental_sdnnff"}, training={"batch_environments": 512, "learning_rate": 0.001}
        ),
        "equivariant": ChangedModel(force_model={"kind": "equivariant"}),
    }
    """What each model changes in ``force_model`` and ``training``."""
    learning_curve: Annotated[
        list[Annotated[list[Natural], Field(min_length=2, max_length=2)]], Field(min_length=1)
    ] = [[100, 3], [300, 3], [1000, 1], [3182, 1]]
    """Pairs of compounds to train on and repeats with other seeds; the compounds rise."""
    committee: count(2, 20) = 5
    """Members at the last point of the curve; one at the others."""
    selection: Selection = Selection()


class ExperimentStudy(Study):
    """A study that also compares force models."""

    experiment: Experiment = Experiment()
    ablation: dict[Kind, list[Changes]] = {
        "elemental_sdnnff": [
            {},
            {"element_channels": ["presence"]},
            {"element_channels": ["presence", "electronegativity", "covalent_radius"]},
            {"mesh_spacing_angstrom": 0.9},
            {"mesh_spacing_angstrom": 1.4},
            {"frames": 1},
            {"frames": 6},
            {"hidden": [128, 64, 32]},
            {"hidden": [1024, 512, 256]},
            {"components_per_parity": 24},
            {"subtract_undisplaced": False},
            {"relative_floor_mev_per_angstrom": None},
        ],
        "equivariant": [
            {},
            {"channels": 8},
            {"channels": 24},
            {"hidden": [32]},
            {"cutoff_angstrom": 4.5},
            {"ema_decay": 0.0},
            {"relative_floor_mev_per_angstrom": None},
        ],
    }
    """Changes of the models of the experiment, each trained once on the data of round 0 (target ``ablation``)."""
