"""Memory, time and GPUs of every rule: from the size of its shard, the settings and the attempt.

``COSTS`` holds one line per rule. Its numbers are the largest memory and the wall time in the benchmark files of a
finished study of ``profiles/laptop`` (55 structures in two shards, two busy cores, SevenNet as the reference), divided
by the structures of a job. Costs of DFT are estimates: nobody has run the study with it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phonoscreen.formats.file_kinds import structure_files
from phonoscreen.workflow.shards import DFT_CODES, jobs_per_shard, shard_names

INITIAL = Path("results/structures/initial")
ATTEMPT_H = 24
"""Run time that the first attempt of a job asks for at most."""
PAPER = 3182 + 77091
"""Structures of Table 1 of the paper, calculated by DFT and unexplored; assumed of a service until the manifest of a
study says how many it has."""
MEMORY_MARGIN, TIME_MARGIN = 1.5, 3.0
"""Asked for are these multiples of what was measured: compounds, machines and libraries differ."""
SNAKEMAKE_MB = 200
"""Of Snakemake itself in a job: measured as what a job on Slurm used beyond its benchmark file."""
DFT_SECONDS, DFT_MEMORY_MB = 1800.0, 2000
"""Of one calculation of a supercell with some 100 atoms, and of one MPI task (estimates)."""
DFT_CELL_SECONDS = 300.0
"""Of one calculation of a primitive cell, in a relaxation (estimate)."""
STEPS_OF_RELAXATION = 279 / 55
"""Calculations in the relaxation of a structure: 279 in that of the 55 compounds of ``profiles/laptop``."""
DISPLACEMENTS_FOR_CHARGES = 30.0
"""What Born charges and the dielectric tensor cost, in calculations of a primitive cell (estimate)."""
FREE_PER_COMPONENT = 0.857
"""Free force constants for each force component of one supercell, mean of the same compounds."""
LAPTOP_EPOCHS, LAPTOP_DENSITY_ANGSTROM = 30, 40
"""Settings of the measured study on which costs depend steeply."""


@dataclass(frozen=True)
class Cost:
    """What one rule was measured to need.

    Attributes
    ----------
    memory_mb, seconds : of a job, whatever its size
    of : the structures a job works on: ``"shard"``, ``"study"``, of both those that are ``"labelled"`` or ``"all
        labelled"``, those ``"selected"`` in one round, ``"one"`` (a few chosen ones) or ``"none"``
    memory_mb_each, seconds_each : of each of these structures besides
    """

    memory_mb: int
    seconds: float
    of: str = "none"
    memory_mb_each: float = 0.0
    seconds_each: float = 0.0


COSTS = {
    # The first waits for a service; the next two hold all candidates, many times the structures of the study.
    "download_structures": Cost(700, 7200, "study", 0.0, 0.1),
    "collect_structures": Cost(2000, 600, "study", 0.05, 0.1),
    "collect_force_sets": Cost(1000, 600, "study", 0.0, 0.5),
    "filter_structures": Cost(2000, 600, "study", 0.05, 0.1),
    "index_outputs": Cost(300, 60, "study", 0.0, 0.1),
    "relax_structures": Cost(700, 30, "shard", 0.02, 6.6),
    "build_symmetry_bases": Cost(800, 900, "shard", 0.02, 0.05),
    "displace_supercells": Cost(200, 10, "shard", 0.02, 0.3),
    "calculate_relaxations": Cost(700, 30, "shard", 0.02, 6.6),
    "calculate_supercells": Cost(2200, 30, "labelled", 0.02, 43.0),
    "calculate_charges": Cost(700, 30, "shard", 0.02, 6.6),
    "list_calculations": Cost(300, 10, "study", 0.05, 0.01),
    "label_forces": Cost(2200, 30, "labelled", 0.02, 43.0),
    "label_selected": Cost(1600, 30, "selected", 0.02, 43.0),
    "check_labels": Cost(400, 10, "labelled", 1.0, 0.5),
    "check_selected": Cost(400, 10, "all selected", 1.0, 0.5),
    "evaluate_baselines": Cost(1700, 30, "all labelled", 0.5, 6.0),
    "assemble_dataset": Cost(450, 20, "all labelled", 4.0, 0.5),
    "train_member": Cost(650, 30, "all labelled", 4.0, 6.0),
    "query_committee": Cost(550, 15, "shard", 0.02, 0.4),
    "select_supercells": Cost(350, 10, "study", 0.05, 0.01),
    "validate_round": Cost(550, 15, "all labelled", 0.5, 1.0),
    "publish_model": Cost(550, 30),
    "find_outdated": Cost(200, 10),
    "predict_forces": Cost(600, 15, "shard", 0.02, 0.8),
    "fit_force_constants": Cost(600, 15, "shard", 0.02, 0.6),
    "check_stability": Cost(300, 10, "shard", 0.02, 0.5),
    "solve_bte": Cost(500, 30, "shard", 0.02, 7.2),
    "check_supercells": Cost(2000, 400, "one", 0.0, 1200.0),
    "cross_check_transport": Cost(400, 100, "one", 0.0, 240.0),
    "cross_check_force_constants": Cost(500, 60, "one", 0.0, 60.0),
    "converge_transport": Cost(1000, 100, "one", 0.0, 3600.0),
    "analyse_bonding": Cost(450, 30, "shard", 0.02, 110.0),
    "tabulate_status": Cost(150, 10, "study", 0.05, 0.01),
    "tabulate_table1": Cost(150, 10, "study", 0.05, 0.01),
    "tabulate_learning": Cost(150, 10, "study", 0.05, 0.01),
    "tabulate_forces": Cost(170, 10, "study", 0.05, 0.02),
    "tabulate_phonons": Cost(170, 10, "study", 0.05, 0.02),
    "tabulate_transport": Cost(160, 10, "study", 0.05, 0.02),
    "tabulate_bonding": Cost(150, 10, "study", 0.02, 0.01),
    # CPU seconds, of up to 4,000 structures: 0.015 for the vector of each, 0.009 for its place on the map (n log n).
    "tabulate_embedding": Cost(350, 60, "study", 0.1, 0.03),
    "draw_figure": Cost(300, 15, "study", 0.01, 0.001),
    "draw_convergence": Cost(300, 15),
    "write_summary": Cost(200, 10, "study", 0.02, 0.001),
    # The experiment and the ablation: sizes of their own, a few hundred labelled compounds.
    "assemble_subset": Cost(450, 60, "all labelled", 1.0, 0.5),
    "train_point": Cost(650, 60, "all labelled", 4.0, 6.0),
    "measure_point": Cost(600, 60, "all labelled", 0.5, 2.0),
    "predict_point": Cost(600, 60, "shard", 0.02, 0.8),
    "replay_selection": Cost(800, 600, "all labelled", 4.0, 40.0),
    "tabulate_experiment": Cost(400, 120, "study", 1.0, 0.5),
    "draw_experiment": Cost(350, 30),
    "write_experiment": Cost(300, 30),
    "ablate_model": Cost(650, 60, "all labelled", 4.0, 6.0),
    "tabulate_ablation": Cost(200, 15),
    # The screening: blocks of some 500 structures.
    "order_pool": Cost(500, 60),
    "screen_block": Cost(1200, 1000),
    "gather_screening": Cost(800, 30),
}  # fmt: skip

_TRAINING = ("train_member", "train_point", "ablate_model", "replay_selection")
_TRANSPORT = ("solve_bte", "check_supercells", "cross_check_transport", "converge_transport")
_REFERENCE = ("relax_structures", "calculate_charges", "label_forces", "label_selected", "check_supercells")
_SHARED = ("calculate_relaxations", "calculate_supercells")


def expected_structures(source: dict) -> int:
    """Return how many structures a study will have, before it has counted them."""
    if source["kind"] == "pool" and Path(source["path"] or "").is_file():
        return max(1, Path(source["path"]).read_bytes().count(b"\n") - 1)
    if source["kind"] == "files" and Path(source["path"] or "").is_dir():
        return max(1, len(structure_files(source["path"])))
    return PAPER


class Needs:
    """What the jobs of a study ask for.

    Parameters
    ----------
    config : the settings of the study
    folder : of the study; the sizes of its shards are read there once they exist

    Attributes
    ----------
    shards : names of the shards
    """

    def __init__(self, config: dict, folder: Path | str = ".") -> None:
        self._config, self._folder = config, Path(folder)
        self.shards = shard_names(config["shards"])
        self._counted: dict[tuple, int] = {}

    def memory(self, rule: str) -> Callable[[Any, int], int]:
        """Return the function of the memory of a rule's jobs in MB; every attempt asks for as much again."""
        cost, extra = COSTS[rule], self._extra_memory_mb(rule)

        def mem_mb(wildcards, attempt):
            n = self._structures(cost.of, wildcards)
            needed = math.ceil(MEMORY_MARGIN * (cost.memory_mb + n * cost.memory_mb_each)) + extra
            return attempt * (SNAKEMAKE_MB + needed)

        return mem_mb

    def expected_memory_mb(self, rule: str, wildcards: Any) -> float:
        """Return the memory that a job of a rule is expected to use, without margin."""
        cost = COSTS[rule]
        return cost.memory_mb + self.structures(rule, wildcards) * cost.memory_mb_each + self._extra_memory_mb(rule)

    def runtime(self, rule: str) -> Callable[[Any, int], int]:
        """Return the function of the run time of a rule's jobs in minutes, at most a day for every attempt.

        Longer jobs are those that keep what they have finished, so that the next attempt goes on there.
        """

        def minutes(wildcards, attempt):
            needed = 5 + math.ceil(TIME_MARGIN * self.seconds(rule, wildcards) / 60)
            return attempt * min(needed, 60 * ATTEMPT_H)

        return minutes

    def seconds(self, rule: str, wildcards: Any, *, structures: int | None = None) -> float:
        """Return the time that a job of a rule takes with some structures; None: with the most that it may have."""
        cost = COSTS[rule]
        n = self._structures(cost.of, wildcards) if structures is None else structures
        return cost.seconds + n * self._seconds_each(rule, cost.seconds_each)

    def gpus(self, rule: str) -> int:
        """Return how many GPUs a job of a rule asks for: with ``force_model.device: cuda`` one for each process."""
        if self._config["force_model"]["device"] != "cuda" or rule in (*_SHARED, "list_calculations"):
            return 0
        engine = self._config["reference"]["engine"]
        if rule == "relax_structures" and self._config["relax"]["engine"] != "reference":
            engine = self._config["relax"]["engine"]
        if rule in _REFERENCE and engine not in ("sevennet", "nequix"):
            return 0
        return self._config["training"]["processes"] if rule == "train_member" else 1

    def tasks(self, rule: str) -> int:
        """Return the MPI tasks that a job of a rule starts: of VASP or of ShengBTE, 1 where neither runs."""
        reference, transport = self._config["reference"], self._config["transport"]
        if self.runs_dft(rule):
            return reference[reference["engine"]]["tasks"]
        return transport["tasks"] if rule == "solve_bte" and transport["solver"] == "shengbte" else 1

    def runs_dft(self, rule: str) -> bool:
        """Return whether the jobs of a rule run a DFT code; where others have calculated before, they only read."""
        reference, shared = self._config["reference"], jobs_per_shard(self._config) > 1
        relaxed_otherwise = rule == "relax_structures" and self._config["relax"]["engine"] != "reference"
        charges_of_files = rule == "calculate_charges" and self._config["charges"]["source"] != "calculated"
        reads = relaxed_otherwise or charges_of_files or (shared and rule in ("relax_structures", "label_forces"))
        return reference["engine"] in DFT_CODES and rule in (*_REFERENCE, *_SHARED) and not reads

    def matrix_mb(self) -> int:
        """Return the largest matrix of the full solution of the transport that stays in memory, in MB."""
        return math.ceil(1024 * self._config["transport"]["memory_gib"])

    def _extra_memory_mb(self, rule):
        dft = self.runs_dft(rule)
        processes = self._config["training"]["processes"] if rule == "train_member" else 1
        extra = self.matrix_mb() if rule in _TRANSPORT else 0
        return extra + DFT_MEMORY_MB * self.tasks(rule) * dft + COSTS[rule].memory_mb * (processes - 1)

    def _seconds_each(self, rule, measured):
        config = self._config
        if rule in _TRAINING:
            return measured * config["training"]["epochs"] / LAPTOP_EPOCHS / config["training"]["processes"]
        if rule in _TRANSPORT:  # pairs of wave vectors
            return measured * (config["transport"]["mesh_density_angstrom"] / LAPTOP_DENSITY_ANGSTROM) ** 6
        if self.runs_dft(rule):
            cell = rule in ("relax_structures", "calculate_relaxations", "calculate_charges")
            single = DFT_CELL_SECONDS if cell else DFT_SECONDS
            return single * self._calculations_each(rule) / self.tasks(rule) / self._jobs(rule)
        return measured

    def structures(self, rule: str, wildcards: Any) -> int:
        """Return how many structures a job of a rule is expected to work on; requests go by the most it may have."""
        config, of = self._config, COSTS[rule].of
        most = self._structures(of, wildcards)
        if of == "shard" and getattr(wildcards, "source", None) == "reference":
            most = self._structures("labelled", wildcards)
        if of == "selected":  # in all shards together
            most = min(most, math.ceil(config["active_learning"]["select_max"] / len(self.shards)))
        if rule == "analyse_bonding" and config["bonding"]["structures_max"] is not None:
            most = min(most, math.ceil(config["bonding"]["structures_max"] / len(self.shards)))
        if rule == "analyse_bonding" and config["bonding"]["budget_cpu_minutes"] is not None:
            most = min(most, math.ceil(60 * config["bonding"]["budget_cpu_minutes"] / COSTS[rule].seconds_each))
        return most

    def calculations(self, rule: str, wildcards: Any) -> float:
        """Return how many calculations of the reference engine a job of a rule is expected to start."""
        engine = self._config["reference"]["engine"]
        of_files = rule == "calculate_charges" and self._config["charges"]["source"] != "calculated"
        made_elsewhere = engine in ("collected", "force_sets") or of_files
        if rule not in (*_REFERENCE, *_SHARED) or made_elsewhere or (engine in DFT_CODES) != self.runs_dft(rule):
            return 0.0
        return self.structures(rule, wildcards) * self._calculations_each(rule) / self._jobs(rule)

    def supercells(self, kind: str) -> float:
        """Return how many displaced supercells a structure is expected to get, ``"reference"`` or ``"network"``."""
        wanted = self._config["supercell"][f"{kind}_oversampling"] * FREE_PER_COMPONENT
        return max(self._config["supercell"][f"{kind}_min"], wanted + 0.5)  # rounded up to whole ones

    def _jobs(self, rule):
        """Return how many jobs share the structures of a shard."""
        return jobs_per_shard(self._config) if rule in _SHARED else 1

    def _calculations_each(self, rule):
        """Return the calculations of a structure: steps of the relaxation, supercells and the undisplaced one."""
        labels = 1 + self.supercells("reference")
        each = {"relax_structures": STEPS_OF_RELAXATION, "label_forces": labels, "label_selected": 2.0}
        each |= {"calculate_charges": DISPLACEMENTS_FOR_CHARGES}
        each |= {"calculate_relaxations": STEPS_OF_RELAXATION, "calculate_supercells": labels}
        return each.get(rule, STEPS_OF_RELAXATION + 2 * labels)

    def _structures(self, of, wildcards):
        """Return how many structures a job works on."""
        if of in ("none", "one"):
            return 0 if of == "none" else self._chosen()
        config, whole = self._config, of in ("study", "all labelled", "all selected")
        n = sum(map(self._size, self.shards)) if whole else self._size(wildcards.shard)
        if of.endswith("labelled") and "unexplored" not in config["reference"]["label"]:
            labelled = sum(config["filter"][f"{part}_structures"] for part in config["reference"]["label"])
            n = min(n, math.ceil(labelled / (1 if whole else len(self.shards))))
        if of.endswith("selected"):
            n = min(n, config["active_learning"]["select_max"])
        return n

    def _chosen(self):
        sections = (self._config["supercell_check"]["structures"], self._config["convergence"]["structures"])
        return max(2, self._config["cross_check"]["structures_per_source"], *(len(names or ()) for names in sections))

    def _size(self, shard):
        """Return the number of structures of a shard: counted in its file of structures, once there is one."""
        path = self._folder / INITIAL / f"{shard}.extxyz"
        try:
            state = path.stat()
        except FileNotFoundError:
            whole, rest = divmod(expected_structures(self._config["source"]), len(self.shards))
            return whole + (int(shard) < rest)
        key = (shard, state.st_mtime_ns, state.st_size)
        if key not in self._counted:
            self._counted[key] = path.read_bytes().count(b"Lattice=")
        return self._counted[key]
