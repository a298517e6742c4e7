"""Settings of the force models: one section for each kind, of which ``kind`` chooses one; and of their training."""

from typing import Literal

from phonoscreen.workflow.settings.fields import (
    Count,
    Natural,
    Section,
    Switch,
    Text,
    count,
    distinct,
    number,
    optional,
)

ElementChannel = Literal["presence", "period", "group", "electronegativity", "covalent_radius"]


class Equivariant(Section):
    """Conservative equivariant model: one energy per atom, its derivative are the forces."""

    cutoff_angstrom: number(3, 10) = 6.0
    """Radius of an atomic environment [OWN]."""
    hidden: list[count(1, 16384)] = [64, 32]
    """Widths of the hidden layers [OWN]."""
    channels: count(1, 256) = 16
    """Radial functions of each degree [OWN]."""
    element_hidden: count(1, 1024) = 32
    """Width of the layers that turn elements into radial functions and into coefficients of invariants [OWN]."""
    long_range: Switch = True
    """Coulomb energy of learned charges in periodic crystals [OWN]."""


class ElementalSdnnff(Section):
    """The paper's model, reconstructed: one fixed-length vector per environment, forces without an energy."""

    cutoff_angstrom: number(3, 10) = 5.5
    """Radius of an atomic environment [OWN]."""
    hidden: list[count(1, 16384)] = [512, 256, 128]
    """Widths of the hidden layers [OWN]."""
    mesh_spacing_angstrom: number(0.5, 2) = 1.1
    """Distance of the points on which the density of neighbours is taken [OWN]."""
    width_over_spacing: number(0.6, 2) = 0.7
    """Width of a neighbour's Gaussian over the spacing; below 0.6 a displacement of 0.03 A is not seen [OWN]."""
    frames: count(1, 6) = 3
    """Nearest-neighbour frames: augmentation, and average at prediction [P: 2 to 3]."""
    element_channels: distinct(ElementChannel, at_least=1) = [
        "presence", "period", "group", "electronegativity", "covalent_radius",
    ]  # fmt: skip
    """Element attributes that weight the density [OWN]."""
    components_per_parity: count(1, 4096) = 64
    """Principal components of the density kept for each of its eight parities [OWN]."""


class ForceModel(Section):
    """The committee of force models."""

    kind: Literal["equivariant", "elemental_sdnnff"] = "equivariant"
    """Which of the sections below is trained; the other has no effect [OWN; P: Elemental-SDNNFF]."""
    committee: count(2, 20) = 5
    """Members [P]."""
    subtract_undisplaced: Switch = True
    """Supercell forces relative to the undisplaced crystal, frame by frame [OWN]."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of weights and arithmetic."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where networks run; auto: a GPU where there is one."""
    equivariant: Equivariant = Equivariant()
    elemental_sdnnff: ElementalSdnnff = ElementalSdnnff()


class Training(Section):
    """Training of each member."""

    epochs: Natural = 60
    """Epochs of round 0."""
    epochs_later_rounds: Natural = 30
    """Epochs of the rounds after it."""
    warm_start: Switch = True
    """Later rounds start from the member of the round before; false: anew."""
    pretrained: optional(Text) = None
    """Folder of a published model of the same settings that round 0 starts from."""
    batch_environments: Natural = 256
    """Atomic environments per step."""
    learning_rate: number(above=0, high=1) = 0.003
    """Largest learning rate of AdamW."""
    weight_decay: number(0, 100) = 1e-4
    """Weight decay of AdamW."""
    held_out_fraction: number(above=0, high=0.5) = 0.1
    """Fraction of the structures on which training is stopped early."""
    patience_epochs: Natural = 30
    """Epochs without a better one before training stops."""
    relative_floor_mev_per_angstrom: optional(number(0, 10_000)) = 20
    """Loss: squared error over rms^2 + floor^2 of the structure; null: absolute errors [OWN]."""
    stress_weight: number(0, 100) = 0.3
    """Weight of relative errors of stresses beside those of forces, where the labels have stresses [OWN]."""
    warmup_steps: Count = 100
    """Steps in which the learning rate rises; then it falls as a cosine."""
    ema_decay: number(low=0, below=1) = 0.99
    """Moving average of the weights, per step; 0: none."""
    processes: count(1, 1024) = 1
    """Processes that share each batch: one per GPU, or several on one CPU."""
    max_supercells_per_structure: optional(Natural) = None
    """Labelled supercells used per structure; null: all."""
