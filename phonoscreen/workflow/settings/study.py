"""Every setting of a study: type, limits, unit, default, meaning and source.

The defaults are the study at the paper's scale; ``config.yaml`` repeats them for the reader. The JSON schema, the
reference page in ``docs/`` and the check of a study's settings come from here.

[P]: stated in Rodriguez et al., Commun. Mater. 4, 61 (2023). [OWN]: our decision, with its reason in ``docs/``.
"""

from typing import Literal

from phonoscreen.workflow.settings.engines import Reference
from phonoscreen.workflow.settings.fields import (
    MOST,
    Count,
    Natural,
    Positive,
    Section,
    StructureId,
    Switch,
    Text,
    count,
    distinct,
    number,
    optional,
    words_or_list,
)
from phonoscreen.workflow.settings.force_models import ForceModel, Training

Strategy = Literal["worst_supercell", "diverse", "random"]
Method = Literal["least_squares", "lasso", "adaptive_lasso", "ardr"]


class Optimade(Section):
    """Properties of an OPTIMADE provider beyond the standard; null: it has none. A point leads into a nested one."""

    space_group: optional(Text) = None
    """Number or symbol of the space group, such as space_group_it_number or _oqmd_spacegroup."""
    formation_energy: optional(Text) = None
    """Formation energy in eV/atom, such as _oqmd_delta_e."""
    hull_distance: optional(Text) = None
    """Energy above the convex hull in eV/atom, such as _oqmd_stability."""
    duplicate_of: optional(Text) = None
    """Id of the preferred entry of the same crystal."""


class Source(Section):
    """Where structures come from."""

    kind: Literal["oqmd", "optimade", "files", "pool", "force_sets"] = "oqmd"
    """A database service, a folder of structure files, a list of compounds, or forces that others calculated."""
    path: optional(Text) = None
    """Folder of CIF, POSCAR or extended XYZ files (kind files) or of force sets, or list of compounds (kind pool)."""
    allow_mixed: distinct(Text) = []
    """Settings that may differ among force sets, named as a refusal names them: GGA, ENCUT, potentials and others."""
    url: Text = "https://oqmd.org"
    """Address of the service (kinds oqmd and optimade); of OPTIMADE the base with its version."""
    snapshot: Text = "results/snapshots/oqmd.parquet"
    """File with what the service answered; downloaded if it is not there, never changed once it is."""
    page_limit: count(1, 10_000) = 50
    """Records asked for at once; the OQMD sends 50 at most [OWN]."""
    request_pause_s: number(0, 600) = 0.5
    """Shortest time between two requests [OWN]; a service that asks for more gets it."""
    optimade: Optimade = Optimade()


class Filter(Section):
    """Which structures enter the study."""

    elements: words_or_list(("paper63",), "[A-Z][a-z]?", "element symbols") = "paper63"
    """Z = 1 to 83 without noble gases, Ce to Lu and Tc: 63 elements [P: number; OWN: list]; or a list of symbols."""
    classes: words_or_list(("table1", "any"), "[1-9][0-9]{0,2}-[A-Z][A-Z0-9]*", "classes") = "table1"
    """The 16 classes of Table 1 [P]; any: also elements and crystals that are not cubic; or a list like 225-AB."""
    formation_energy_max_ev_per_atom: number(-10, 10) = 0.0
    """Largest formation energy [OWN]."""
    hull_distance_max_ev_per_atom: number(0, 10) = 0.2
    """Largest energy above the convex hull [OWN]."""
    symmetry_tolerance_angstrom: number(above=0, high=0.5) = 0.01
    """Tolerance of the space group (spglib) [OWN]."""
    training_structures: Natural = 3182
    """Structures with reference labels at the start, drawn by the seed from all classes [P]; a study smaller than both
    numbers together is divided 80:10:10 into training, validation and unexplored structures [OWN]."""
    validation_structures: Count = 400
    """Untrained structures labelled for validation alone [P]."""


class Relax(Section):
    """Relaxation of the primitive cell; the symmetry is kept."""

    engine: Literal["reference", "nequix", "sevennet", "chgnet", "published"] = "reference"
    """Engine of the relaxation: that of the reference forces, a universal potential as ``reference`` describes it, or
    the published model. With the paper's 80,273 structures, five calculations of DFT each are saved [OWN]."""
    published_model: Text = "resources/model"
    """Folder of the published model (engine published)."""

    force_max_ev_per_angstrom: number(above=0, high=0.1) = 0.001
    """Largest force left [OWN]."""
    stress_max_gpa: number(above=0, high=5) = 0.05
    """Largest stress left [OWN]."""
    steps_max: Natural = 300
    """Steps before a structure counts as not converged."""


class Supercell(Section):
    """Displaced supercells."""

    min_length_angstrom: number(4, 40) = 10.0
    """Every lattice vector of a supercell is at least this long [OWN]."""
    max_atoms: count(8, 2000) = 250
    """Atoms of a supercell [OWN]."""
    displacement_angstrom: number(above=0, high=0.2) = 0.03
    """Length of every atom's displacement, in a random direction [P]; beyond 0.2 higher orders count."""
    reference_oversampling: number(1, 1000) = 10
    """Equations per free force constant, labels [OWN]."""
    reference_min: count(2, MOST) = 4
    """Supercells per structure at least, labels [OWN]."""
    network_oversampling: number(1, 1000) = 30
    """Equations per free force constant, forces of the committee [OWN]."""
    network_min: count(2, MOST) = 10
    """Supercells per structure at least, forces of the committee [OWN]."""


class ActiveLearning(Section):
    """Query by committee."""

    rounds_max: count(0, 50) = 7
    """Rounds after the first training [P]."""
    threshold_mev_per_angstrom: Positive = 50
    """A structure whose worst disagreement of Eq. (3) is above goes to the reference [P]."""
    strategy: Strategy = "worst_supercell"
    """What is labelled of a structure: its worst supercell [P], or another choice for comparison."""
    select_max: Natural = 2000
    """Structures per round [OWN]."""
    converged_change: number(0, 1) = 0.05
    """Rounds stop when the number recommended changes by less than this fraction [OWN]."""
    shards: optional(count(1, 9999)) = None
    """The first shards, whose structures are labelled, trained on and queried; null: all. Structures added later, in
    further shards, are then predicted by the model as it is [OWN]."""


class MethodOfOrder(Section):
    """Regression of each order of force constants."""

    second: Method = "least_squares"
    """Of pairs. The sparse ones (lasso, adaptive_lasso, ardr) also work with fewer equations than unknowns."""
    third: Method = "least_squares"
    """Of triplets."""
    fourth: Method = "least_squares"
    """Of quadruplets, where ``fourth_cutoff_angstrom`` is set."""


class Charges(Section):
    """Born charges and dielectric tensors, which the long-range part of polar crystals needs."""

    source: Literal["reference", "calculated", "files"] = "reference"
    """Those that come with the reference forces, if any (BORN beside collected outputs, force sets); calculated by the
    DFT code of the reference (gpaw or vasp) for every relaxed crystal; or files."""
    folder: optional(Text) = None
    """Folder with a folder per structure id that holds BORN, or vasprun.xml or OUTCAR of VASP with LEPSILON (source
    files)."""
    k_spacing_per_angstrom: number(0.05, 1) = 0.3
    """Largest distance of k points (source calculated) [OWN]."""


class ForceConstants(Section):
    """Force constants from displaced supercells."""

    method: MethodOfOrder = MethodOfOrder()
    in_sequence: Switch = False
    """Each order fitted to what the lower ones leave, instead of all together [OWN]."""
    second_cutoff_angstrom: optional(number(2, 15)) = None
    """Reach of the second order; null: all pairs of the supercell [OWN]."""
    third_cutoff_angstrom: optional(number(2, 15)) = None
    """Reach of the third order at most; moved to the nearest gap between neighbour shells below. null: the neighbour
    shells of the structure type in resources/prototypes.yaml, and 5 for crystals of other classes [OWN]."""
    third_shells: optional(count(1, 30)) = None
    """Neighbour shells inside the third-order cutoff of every crystal, instead of a length."""
    fourth_cutoff_angstrom: optional(number(2, 15)) = None
    """Reach of the fourth order; null: no fourth order."""
    rotational_sum_rules: Switch = True
    """Born-Huang and Huang conditions after the fit, where the forces allow them; false: never."""
    learning_curve: Switch = False
    """Also fit to fewer supercells: what more of them would bring."""


class Stability(Section):
    """When a crystal counts as dynamically stable."""

    imaginary_threshold_thz: number(0, 5) = 0.1
    """A mode below minus this, away from Gamma, is imaginary [OWN]."""


class Transport(Section):
    """Phonon Boltzmann equation."""

    solver: Literal["native", "shengbte", "phono3py"] = "native"
    """Our own engine, or one of the independent programs."""
    command: optional(Text) = None
    """Executable of ShengBTE with its arguments, such as: mpirun -n {tasks} ShengBTE."""
    tasks: count(1, 100_000) = 1
    """MPI processes of ShengBTE, asked from the scheduler; ``{tasks}`` in the command stands for them."""
    temperature_k: number(above=0, high=5000) = 300
    """Temperature [P]."""
    mesh_density_angstrom: number(5, 500) = 60
    """Mesh of wave vectors: N = ceil(density / |a_i|), odd [OWN]."""
    scalebroad: number(above=0, high=2) = 1.0
    """Factor of the adaptive Gaussian broadening (ShengBTE)."""
    isotopes: Switch = True
    """Scattering by natural isotopes."""
    coherence_sum: Literal["cell_average", "bare"] = "cell_average"
    """Coherences averaged over the cell of each wave vector, or the bare sum that phono3py takes [OWN]."""
    non_analytic_correction: Switch = True
    """Long-range dipoles where Born charges are known (section charges) [OWN]."""
    iterations_max: Natural = 500
    """Steps of the full solution."""
    iterations_tolerance: number(above=0, high=0.1) = 1e-5
    """Relative change of the conductivity at which the full solution ends."""
    committee: Switch = True
    """Also solve each committee member (relaxation time): standard deviations."""
    committee_mesh_density_angstrom: optional(number(5, 500)) = None
    """Coarser mesh of the members; null: that of the structure. Spreads of logarithms hardly depend on it [OWN]."""
    memory_gib: Positive = 4
    """Largest matrix of the full solution in memory; a larger one goes to a temporary file."""


class Convergence(Section):
    """Target ``convergence``: the conductivity against one setting at a time, on request."""

    source: Literal["reference", "predicted"] = "reference"
    """Forces behind the force constants."""
    structures: optional(distinct(StructureId)) = None
    """Ids of the structures; null: the labelled structure of the smallest supercell."""
    mesh_densities_angstrom: list[number(5, 500)] = [20, 30, 40, 50, 60, 80]
    """Values of ``transport.mesh_density_angstrom`` that are tried [OWN]."""
    scalebroads: list[number(above=0, high=10)] = [0.1, 0.3, 0.5, 1.0, 2.0]
    """Values of ``transport.scalebroad`` that are tried [OWN]."""
    third_cutoffs_angstrom: list[number(1, 20)] = [3.0, 4.0, 5.0, 6.0]
    """Values of ``force_constants.third_cutoff_angstrom`` that are tried, each with a new fit [OWN]."""


class CrossCheck(Section):
    """Independent programs on some of the study's structures."""

    structures_per_source: Count = 5
    """Structures of each source of forces that are solved again."""


class SupercellCheck(Section):
    """Reference conductivity against the next larger supercell."""

    structures: optional(distinct(StructureId)) = None
    """Ids of the structures; null: two small ones, of different classes where there are any."""


class Bonding(Section):
    """COHP."""

    engine: Literal["lobster", "gpaw", "tblite"] = "lobster"
    """The user's own LOBSTER outputs, or an open program."""
    outputs: optional(Text) = None
    """Folder of LOBSTER outputs, one folder per structure id."""
    structures_max: optional(Count) = None
    """Structures analysed; null: every stable one."""
    budget_cpu_minutes: optional(number(0, MOST)) = None
    """CPU time of all COHP calculations together, as estimated from the formulas; null: no limit."""
    records: optional(Text) = None
    """Packed COHP records (engine gpaw) that are taken where crystal and method agree; null: none."""


Stage = Literal[
    "relax_structures", "build_symmetry_bases", "displace_supercells", "calculate_charges", "label_forces",
    "check_labels", "label_selected", "calculate_relaxations", "calculate_supercells",
    "check_selected", "query_committee", "validate_round", "predict_forces", "fit_force_constants", "check_stability",
    "solve_bte", "check_supercells", "analyse_bonding", "predict_point",
]  # fmt: skip
"""Stages that go through the structures of a shard."""


class Study(Section):
    """A study of the paper's kind."""

    seed: count(0, 2**63 - 1) = 61
    """Every random choice derives from it, the structure and the purpose."""
    shards: count(1, 9999) = 40
    """Parts the manifest is divided into, about 2,000 structures each in the paper's study."""
    source: Source = Source()
    filter: Filter = Filter()
    reference: Reference = Reference()
    relax: Relax = Relax()
    supercell: Supercell = Supercell()
    force_model: ForceModel = ForceModel()
    training: Training = Training()
    active_learning: ActiveLearning = ActiveLearning()
    charges: Charges = Charges()
    force_constants: ForceConstants = ForceConstants()
    stability: Stability = Stability()
    transport: Transport = Transport()
    convergence: Convergence = Convergence()
    cross_check: CrossCheck = CrossCheck()
    supercell_check: SupercellCheck = SupercellCheck()
    bonding: Bonding = Bonding()
    accept_failed_shards: distinct(Stage) = []
    """Stages in which all structures of a shard may fail for one reason; elsewhere such a job ends as an error."""
    baselines: distinct(Literal["chgnet", "7net-0", "7net-l3i5"]) = []
    """Universal potentials evaluated on the validation supercells (figure S3)."""
