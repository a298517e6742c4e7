"""Settings of the reference forces: one section for each engine, of which ``engine`` chooses one."""

from typing import Any, Literal

from phonoscreen.workflow.settings.fields import Section, Text, count, distinct, number, optional

Part = Literal["training", "validation", "unexplored"]


class Dft(Section):
    """Plane-wave density functional theory."""

    command: optional(Text) = None
    """Command that starts the program; null: the program's own default."""
    tasks: count(1, 100_000) = 1
    """MPI processes of one calculation, asked from the scheduler; ``{tasks}`` in the command stands for them."""
    cutoff_ev: number(100, 2000) = 520
    """Plane-wave cutoff [OWN]."""
    k_spacing_relax_per_angstrom: number(0.05, 1) = 0.2
    """Largest distance of k points in relaxations [OWN]."""
    k_spacing_supercell_per_angstrom: number(0.05, 1) = 0.3
    """The same in displaced supercells [OWN]."""
    k_points: Literal["gamma_centred", "shifted"] = "gamma_centred"
    """Grid with the point Gamma, or moved by half a division where their number is even: fewer points for insulators of
    cubic cells, never for hexagonal ones."""
    smearing_ev: number(0.001, 1) = 0.05
    """Width of the occupations: Gaussian (VASP, Quantum ESPRESSO) or Fermi-Dirac (GPAW)."""


class Vasp(Dft):
    """VASP (licensed: the user's own)."""

    model: Literal["PBE", "PBEsol"] = "PBE"
    """Exchange-correlation functional [P: PBE]."""


class Gpaw(Dft):
    """GPAW, plane waves."""

    model: Literal["PBE", "PBEsol"] = "PBE"
    """Exchange-correlation functional [P: PBE]."""
    cutoff_relax_ev: number(100, 2000) = 800
    """Plane-wave cutoff of relaxations: the stress needs more waves than forces do [OWN]."""


class Espresso(Dft):
    """Quantum ESPRESSO (pw.x)."""

    model: Literal["PBE", "PBEsol"] = "PBE"
    """Exchange-correlation functional, for which the potentials must be made [P: PBE]."""
    potentials: optional(Text) = None
    """Folder with one potential (UPF) for each element; null: that of the variable ``ESPRESSO_PSEUDO``."""
    density_cutoff_factor: number(4, 16) = 8
    """Cutoff of the density in those of the waves: 4 for norm-conserving potentials, 8 or more for others [OWN]."""


class AseCalculator(Section):
    """Any calculator of ASE, by its name. Whether it is DFT, its name tells."""

    model: Text = "ase.calculators.emt:EMT"
    """``module:Class`` of the calculator."""
    arguments: dict[str, Any] = {}
    """Keyword arguments of the class."""


class SevenNet(Section):
    """SevenNet: universal potentials whose weights ship inside the package. Not DFT."""

    model: Literal["7net-0", "7net-l3i5"] = "7net-l3i5"
    """Name of the potential [OWN]."""


class Nequix(Section):
    """Nequix: universal potentials whose weights are files, verified by their sha256. Not DFT."""

    model: Literal["nequix-oam-1-pft", "nequix-mp-1-pft"] = "nequix-oam-1-pft"
    """Name of the potential [OWN]."""


class Chgnet(Section):
    """CHGNet: a universal potential whose weights ship inside the package. Not DFT."""

    model: Literal["0.3.0"] = "0.3.0"
    """Version of the weights."""


class Collected(Section):
    """Outputs of calculations that exist already."""

    model: Text = "PBE"
    """What the outputs were computed with; stands in every table and figure."""
    folder: optional(Text) = None
    """Folder of the outputs, one folder per structure id."""


class ForceSets(Section):
    """Forces that others calculated, of supercells of their own: those of source.kind force_sets."""

    model: Text = "PBE"
    """What the forces were computed with; stands in every table and figure."""


class Recorded(Section):
    """Forces of a universal potential, recorded once for the supercells of a small study. Not DFT."""

    model: Text = "nequix-oam-1-pft"
    """What the forces were calculated with; stands in every table and figure."""
    file: Text = "resources/labels/laptop_labels.h5"
    """Packed labels (``phonoscreen.stages.label_recording``)."""
    relaxed: optional(Text) = "resources/labels/teacher_labels.h5"
    """Further packed labels: relaxed crystals of structures that are screened without labels, and forces where the
    supercells are those of the study."""


class Reference(Section):
    """Where the reference forces come from."""

    engine: Literal[
        "vasp", "gpaw", "espresso", "ase", "nequix", "sevennet", "chgnet", "recorded", "collected", "force_sets"
    ] = "vasp"
    """Which of the sections below computes; the others have no effect."""
    label: distinct(Part, at_least=1) = ["training", "validation"]
    """Parts of the manifest that get reference labels before any selection."""
    mode: Literal["run", "write_inputs", "collect"] = "run"
    """Calculations of a DFT code: run here; only their inputs written; or collected from what was run on these inputs
    elsewhere."""
    jobs_per_shard: count(1, 1000) = 1
    """Jobs that share the calculations of a DFT code in a shard at most, divided by their estimated cost; a whole study
    has 300 of them at most. 1: the jobs of the stages calculate themselves."""
    calculations: optional(Text) = None
    """File of finished calculations that somebody else made: what it holds is not calculated again."""
    vasp: Vasp = Vasp()
    gpaw: Gpaw = Gpaw()
    espresso: Espresso = Espresso()
    ase: AseCalculator = AseCalculator()
    nequix: Nequix = Nequix()
    sevennet: SevenNet = SevenNet()
    chgnet: Chgnet = Chgnet()
    recorded: Recorded = Recorded()
    collected: Collected = Collected()
    force_sets: ForceSets = ForceSets()
