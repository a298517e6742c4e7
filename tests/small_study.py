"""A small study as files: every stage's records and arrays, written by the project's own writers from drawn numbers."""

import json
import runpy
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy
import pandas
import yaml
from ase import Atoms

from phonoscreen.audit.records import write_records, write_table
from phonoscreen.audit.shard import Outcome, run_shard
from phonoscreen.structures.store import structure_arrays
from phonoscreen.workflow.inputs import figure_names, tables_of_figure

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("reference", "predicted")
COMPOUNDS = [
    ("NaCl", 225, "AB"), ("MgO", 225, "AB"), ("LiF", 225, "AB"), ("KBr", 225, "AB"), ("CsCl", 221, "AB"),
    ("NiAl", 221, "AB"), ("ZnS", 216, "AB"), ("GaAs", 216, "AB"), ("NiTiSn", 216, "ABC"), ("CoTiSb", 216, "ABC"),
    ("NaKAs", 216, "ABC"), ("CuPdSr2", 216, "ABC2"), ("AlCu3", 221, "AB3"), ("SrTiO3", 221, "ABC3"),
    ("KMgF3", 221, "ABC3"), ("FeAl3", 225, "AB3"), ("MnCu2Al", 225, "ABC2"), ("NiMn2Ge", 225, "ABC2"),
    ("KIrCs2Cl6", 225, "ABC2D6"), ("NaLaCs2Cl6", 225, "ABC2D6"), ("LaAl2", 227, "AB2"), ("MgCu2", 227, "AB2"),
    ("MgAl2O4", 227, "AB2C4"), ("ZnAl2O4", 227, "AB2C4"),
]  # fmt: skip


class Names(dict):
    """Names readable as attributes, iterated over by value, like the inputs of a Snakemake script."""

    __getattr__ = dict.__getitem__


def write_small_study(folder, n_structures=24, seed=3):
    """Write ``results``-like files of a study of the first compounds below a folder and return the folder.

    Unstable with reference forces: every seventh structure. Failed relaxation: the last structure.
    """
    study = _Study(Path(folder), COMPOUNDS[:n_structures], numpy.random.default_rng(seed))
    study.structures()
    study.forces()
    study.rounds()
    for source in SOURCES:
        study.phonons(source)
    study.checks()
    (Path(folder) / "outdated.json").write_text("{}")
    return Path(folder)


def copy_repository(folder, leave_out=("tests/",)):
    """Copy the repository, without what git ignores and what is left out, and return the folder."""
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in names.splitlines():
        if (ROOT / name).exists() and not name.startswith(tuple(leave_out)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name, follow_symlinks=False)
    return folder


def composition(formula):
    from phonoscreen.structures.formulas import composition

    return composition(formula)


class _Study:
    def __init__(self, folder, compounds, rng):
        self.folder, self.rng = folder, rng
        self.compounds = {f"test-{number:03d}": compound for number, compound in enumerate(compounds)}
        self.ids = list(self.compounds)
        self.shards = {f"{n:04d}": self.ids[n::2] for n in range(2)}
        self.failed = {self.ids[-1]} if len(self.ids) > 3 else set()
        self.kappa = {i: 10 ** rng.uniform(-1.2, 1.8) for i in self.ids}

    def part(self, structure_id):
        return ("training", "unexplored", "validation")[self.ids.index(structure_id) % 3]

    def atoms(self, structure_id):
        counts = composition(self.compounds[structure_id][0])
        symbols = [symbol for symbol, count in counts.items() for _ in range(count)]
        places = numpy.array([[0.0, 0, 0], [0.25, 0.25, 0.25], [0.5, 0.5, 0.5], [0.75, 0.75, 0.75]])
        more = [[0.24 * s * (axis == k) % 1 for k in range(3)] for axis in range(3) for s in (1, -1)]
        places = [*places, *more][: len(symbols)]
        return Atoms(symbols, scaled_positions=places, cell=5.0 * (1 - numpy.eye(3)), pbc=True)

    def stage(self, name, path, compute, arrays=True, upstream_failed=True):
        """Write records (and arrays) of one stage for both shards."""
        for shard, ids in self.shards.items():
            stem = self.folder / path / shard
            stem.parent.mkdir(parents=True, exist_ok=True)
            output = Names(records=f"{stem}.parquet", **({"arrays": f"{stem}.h5"} if arrays else {}))
            before = [(i, "before", "failed" if i in self.failed else "ok") for i in ids]
            upstream = pandas.DataFrame(before, columns=["structure_id", "stage", "status"])
            job = SimpleNamespace(output=output, key="fixture", work=self.folder / "work")
            run_shard(job, ids, compute, stage=name, upstream=upstream if upstream_failed else None)

    def structures(self):
        rows = []
        for structure_id, (formula, group, kind) in self.compounds.items():
            shard = next(name for name, ids in self.shards.items() if structure_id in ids)
            identity = [structure_id, formula, group, kind, f"{group}-{kind}"]
            rows.append([*identity, len(self.atoms(structure_id)), self.part(structure_id), shard])
        names = ["structure_id", "formula", "space_group_number", "formula_type", "prototype"]
        names += ["n_atoms", "part", "shard"]
        (self.folder / "structures").mkdir(parents=True, exist_ok=True)
        write_table(pandas.DataFrame(rows, columns=names), self.folder / "structures/manifest.parquet")
        record = {"stage": "filter_structures", "status": "ok", "reason": ""}
        left_out = {**record, "status": "skipped", "reason": "class 186-AB is not among those of the study"}
        records = [{"structure_id": name, **record} for name in self.ids] + [{"structure_id": "wurtzite", **left_out}]
        write_records(records, self.folder / "structures/filter_records.parquet")

        def relax(structure_id):
            if structure_id in self.failed:
                return Outcome(status="not_converged", reason="force above the limit after 300 steps")
            return Outcome(values={"energy_ev_per_atom": -4.0}, arrays=structure_arrays(self.atoms(structure_id)))

        self.stage("relax_structures", "relaxed", relax, upstream_failed=False)
        skipped = {"stage": "build_symmetry_bases", "status": "skipped", "reason": "relax_structures: not_converged"}
        done = {"stage": "build_symmetry_bases", "status": "ok", "reason": ""}
        (self.folder / "bases").mkdir()
        records = [{"structure_id": i, **(skipped if i in self.failed else done)} for i in self.ids]
        write_records(records, self.folder / "bases/0000.parquet")

        def displace(structure_id):
            return Outcome(values={"n_supercell_atoms": self.n_atoms(structure_id)})

        self.stage("displace_supercells", "supercells", displace)

    def n_atoms(self, structure_id):
        return 27 * len(self.atoms(structure_id))

    def forces(self):
        truth = {i: self.rng.normal(0, 0.08, (6, self.n_atoms(i), 3)) for i in self.ids}
        noise = {i: self.rng.normal(0, 0.02, (6, self.n_atoms(i), 3)) for i in self.ids}

        def label(structure_id):
            seconds = {"seconds_per_supercell": 0.02 * self.n_atoms(structure_id)}
            arrays = {"forces": truth[structure_id][[0, 2]], "supercell_index": numpy.array([0, 2])}
            return Outcome(values=seconds, arrays=arrays, attrs={"engine": "sevennet", "model": "7net-0"})

        def predict(structure_id):
            seconds = {"seconds_per_supercell": 0.004 * self.n_atoms(structure_id)}
            return Outcome(values=seconds, arrays={"forces": truth[structure_id] + noise[structure_id]})

        self.stage("label_forces", "labels", label)
        self.stage("check_labels", "checked_labels", label)
        self.stage("predict_forces", "predicted", predict)
        (self.folder / "baselines").mkdir()
        with h5py.File(self.folder / "baselines/components.h5", "w") as store:
            for structure_id in self.ids:
                if self.part(structure_id) == "validation" and structure_id not in self.failed:
                    reference = truth[structure_id][[0, 2]]
                    store[f"{structure_id}/reference"] = reference
                    store[f"{structure_id}/chgnet"] = 0.7 * reference
                    store[f"{structure_id}/7net-0"] = reference + 2 * noise[structure_id][[0, 2]]

    def rounds(self):
        training = [i for i in self.ids if self.part(i) == "training" and i not in self.failed]
        chosen = [i for i in self.ids if self.part(i) == "unexplored"][:3]
        validation = [i for i in self.ids if self.part(i) == "validation" and i not in self.failed]
        for number in range(3):
            folder = self.folder / f"rounds/{number}"
            ids = training + chosen[:number]
            for member in range(2):
                (folder / f"members/{member}").mkdir(parents=True)
                epochs = numpy.arange(12 if number == 0 else 5 if number == 1 else 0)
                error = 40.0 * numpy.exp(-epochs / 6) + 18 - 3 * number + member
                history = {"round": number, "member": member, "epoch": epochs}
                history |= {"training_rmse_mev_per_angstrom": error, "held_out_rmse_mev_per_angstrom": error + 9}
                write_table(pandas.DataFrame(history), folder / f"members/{member}/history.parquet")
            sizes = {"n_supercells": 4, "n_environments": [4 * self.n_atoms(i) for i in ids]}
            table = pandas.DataFrame({"structure_id": ids, "split": "training", **sizes})
            write_table(table, folder / "dataset.parquet")
            done = {"stage": "validate_round", "status": "ok", "reason": ""}
            errors = {"force_rmse_mev_per_angstrom": 40.0 - 6 * number, "force_rmse_relative": 0.5 - 0.08 * number}
            write_records([{"structure_id": i, **done, **errors} for i in validation], folder / "validation.parquet")
            if number < 2:
                picked = chosen[number : number + 1]
                names = {"shard": "0000", "supercell_index": 1, "epsilon_max_mev_per_angstrom": 80.0}
                columns = ["structure_id", *names]
                selection = pandas.DataFrame([{"structure_id": i, **names} for i in picked], columns=columns)
                write_table(selection, folder / "selection.parquet")
                verdict = {"recommended": 5 - number, "selected": len(picked), "converged": False, "reason": ""}
                (folder / "convergence.json").write_text(json.dumps(verdict))

    def phonons(self, source):
        factor = dict.fromkeys(self.ids, 1.0)
        if source == "predicted":
            factor = {i: 10 ** self.rng.normal(0, 0.2) for i in self.ids}
        unstable = set(self.ids[6::7])
        weights = numpy.array([1.0, 8, 6, 12])

        def stability(structure_id):
            n_band = 3 * len(self.atoms(structure_id))
            path = numpy.linspace(0, 2, 41)
            shape = abs(numpy.sin(numpy.pi * path))[:, None] * numpy.linspace(2, 6, n_band) + numpy.arange(n_band) / 3
            frequencies = shape * factor[structure_id] ** 0.2 - (1.0 if structure_id in unstable else 0.0)
            labels = [{0: "G", 20: "U|K", 40: "G"}.get(n, "") for n in range(41)]
            bad = structure_id in unstable
            return Outcome(
                status="unstable" if bad else "ok", reason="imaginary modes" if bad else "",
                values={"frequency_min_thz": frequencies.min(), "frequency_max_thz": frequencies.max()},
                arrays={"band/distances": path, "band/frequencies_thz": frequencies,
                        "band/labels": numpy.array([text.encode() for text in labels])},
            )  # fmt: skip

        def solve(structure_id):
            if structure_id in unstable:
                return Outcome(status="skipped", reason="check_stability: unstable")
            atoms = self.atoms(structure_id)
            rng = numpy.random.default_rng([5, self.ids.index(structure_id)])
            kappa = self.kappa[structure_id] * factor[structure_id]
            coherence = 0.05 * kappa**0.3
            n_band = 3 * len(atoms)
            linewidth = rng.uniform(0.02, 0.4, (4, n_band)) * factor[structure_id]
            linewidth[0, :3] = 0.0
            share = rng.uniform(0, 1, (4, n_band)) * weights[:, None]
            msd = 0.02 * kappa**-0.4 * rng.uniform(0.7, 1.0, len(atoms))
            return Outcome(
                values={
                    "temperature_k": 300.0, "kappa_p_rta_w_per_m_k": 0.9 * kappa, "kappa_p_w_per_m_k": kappa,
                    "kappa_c_w_per_m_k": coherence, "heat_capacity_j_per_m3_k": 1.6e6 * kappa**0.03,
                    "heat_capacity_j_per_mol_k": 24.0, "sound_velocity_m_per_s": 3000 * kappa**0.2,
                    "p3_total": 1e-3 * kappa**-0.2, "msd_max_angstrom2": msd.max(),
                    "msd_max_element": atoms.get_chemical_symbols()[msd.argmax()],
                    "volume_angstrom3": atoms.get_volume(), "kappa_p_mesh_error_percent": 5.0 + 10 * rng.random(),
                    "kappa_c_mesh_error_percent": 2.0,
                },
                arrays={
                    "weights": weights, "frequencies_thz": rng.uniform(0.5, 8, (4, n_band)),
                    "linewidth_fwhm_thz": linewidth, "kappa_p_modes": kappa * share / share.sum(),
                    "kappa_c_modes": coherence * share[::-1] / share.sum(), "msd_angstrom2": msd,
                },
            )  # fmt: skip

        def bond(structure_id):
            bonding, antibonding = self.rng.uniform(0, 2), self.rng.uniform(0, 0.5)
            values = {
                "bonding_ev": bonding, "antibonding_ev": antibonding, "n_pairs": 12, "spilling": 0.004, "uncertain": "",
                "bonding_kj_per_mol": 400 * bonding, "antibonding_kj_per_mol": 50 * antibonding,
                "engine": "tblite", "origin": "calculated",
            }  # fmt: skip
            arrays = {
                "bond_types": numpy.array(["Cl-Na", "Na-Na"], dtype=h5py.string_dtype()), "n_pairs": [6, 6],
                "lengths_angstrom": [2.8, 3.9], "icohp_ev": [-bonding - 0.1, 0.01], "energies_ev": [-1.0, 0.0],
                "cohp": numpy.zeros((2, 2)),
            }  # fmt: skip
            return Outcome(values=values, arrays=arrays)

        fitted = Outcome(values={"n_free": 30})
        self.stage("fit_force_constants", f"force_constants/{source}", lambda i: fitted, arrays=False)
        self.stage("check_stability", f"stability/{source}", stability)
        self.stage("solve_bte", f"transport/{source}", solve)
        if source == "predicted":
            self.stage("analyse_bonding", "bonding", bond)

    def checks(self):
        (self.folder / "checks").mkdir()
        values = {"relative_change": 0.1}
        for n, name in ((3, "study"), (4, "larger")):
            values |= {f"repetitions_{name}": f"{n} {n} {n}", f"n_supercell_atoms_{name}": 2 * n**3}
            values |= {f"kappa_p_rta_{name}_w_per_m_k": 9.0 + n, f"kappa_p_{name}_w_per_m_k": 9.5 + n}
        done = {"structure_id": "test-000", "stage": "check_supercells", "status": "ok", "reason": "", **values}
        lost = {"structure_id": "test-001", "stage": "check_supercells", "status": "failed", "reason": "not relaxed"}
        write_records([done, lost], self.folder / "checks/supercell_size.parquet")
        checked = {**done, "stage": "cross_check_transport", "phono3py_kappa_p_rta_w_per_m_k": 11.8}
        write_records([checked], self.folder / "checks/transport.parquet")
        fitted = {
            **done,
            "stage": "cross_check_force_constants",
            "program": "symfc",
            "second_relative_difference": 2e-7,
        }
        write_records([fitted], self.folder / "checks/force_constants.parquet")


def run_script(name, *, input, output, params=None, log=()):
    """Run ``main`` of a script without Snakemake and without provenance.

    Parameters
    ----------
    name : name of the script
    input, output, params : dicts by name
    """
    import phonoscreen.audit.job as job_module

    captured = {}
    run_job = job_module.run_job
    job_module.run_job = lambda _, main: captured.update(main=main)
    try:
        runpy.run_path(str(ROOT / f"scripts/{name}.py"), init_globals={"snakemake": None})
    finally:
        job_module.run_job = run_job
    for path in output.values():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    names = {"input": Names(input), "output": Names(output), "params": Names(params or {})}
    work, resources = Path(next(iter(output.values()))).parent / "work", Names(matrix_mb=1000, tasks=1, device="cpu")
    captured["main"](SimpleNamespace(**names, key="test", threads=1, work=work, asked=False, resources=resources))


def tabulate(results):
    """Run every tabulate script on the files of a study and return the tables by name."""
    shards = [f"{n:04d}" for n in range(2)]

    def files(path, suffix):
        return [str(results / path / f"{shard}.{suffix}") for shard in shards]

    def both(stage, suffix, name):
        return {f"{name}_{source}": files(f"{stage}/{source}", suffix) for source in SOURCES}

    def each(path):
        return sorted(str(found) for found in (results / "rounds").glob(path))

    manifest = {"manifest": str(results / "structures/manifest.parquet")}
    datasets = {"datasets": each("*/dataset.parquet"), "compounds": []}
    model = {"cutoff_angstrom": 5.0, "mesh_spacing_angstrom": 1.2, "width_over_spacing": 0.7, "frames": 3}
    stages = {
        stage: files(stage, "parquet")
        for stage in ("relaxed", "supercells", "labels", "checked_labels", "predicted", "bonding")
    }
    for stage in ("force_constants", "stability", "transport"):
        stages |= both(stage, "parquet", stage)
    published = str(ROOT / "resources/published/table1.yaml")
    jobs = {
        "tabulate_table1": (["table1"], {**both("stability", "parquet", "stability"), "published": published}, {}),
        "tabulate_status": (
            ["status", "timings"], {**stages, "assignment": [str(results / "bases/0000.parquet")]}, {},
        ),
        "tabulate_phonons": (
            ["phonons", "dispersions"],
            {**datasets, **both("stability", "parquet", "records"), **both("stability", "h5", "arrays")}, {},
        ),
        "tabulate_transport": (
            ["transport", "modes", "elements"],
            {**datasets, **both("transport", "parquet", "records"), **both("transport", "h5", "arrays"),
             "relaxed": files("relaxed", "h5"), "relaxed_records": files("relaxed", "parquet")}, {},
        ),
        "tabulate_bonding": (
            ["bonding", "bonds"],
            {"bonding": files("bonding", "parquet"), "arrays": files("bonding", "h5"),
             "transport_predicted": files("transport/predicted", "parquet")}, {},
        ),
        "tabulate_learning": (
            ["rounds", "round_errors", "histories"],
            {**datasets, "selections": each("*/selection.parquet"), "convergences": each("*/convergence.json"),
             "validations": each("*/validation.parquet"), "histories": each("*/members/*/history.parquet")},
            {"frames": 3},
        ),
        "tabulate_forces": (
            ["force_errors", "force_components"],
            {**datasets, "labels": files("labels", "h5"), "predicted": files("predicted", "h5"),
             "baselines": str(results / "baselines/components.h5")}, {"components_max": 300},
        ),
        "tabulate_embedding": (["embedding"], {"relaxed": files("relaxed", "h5")}, {"force_model": model, "seed": 61}),
    }  # fmt: skip
    tables = {}
    for script, (names, inputs, params) in jobs.items():
        output = {name: str(results / f"tables/{name}.parquet") for name in names}
        output |= {f"{name}_csv": str(results / f"tables/{name}.csv") for name in names}
        run_script(script, input={**manifest, **inputs}, output=output, params=params)
        tables |= {name: pandas.read_parquet(output[name]) for name in names}
    return tables


FIGURE_INPUTS = {name: tables_of_figure(name) for name in figure_names()}


def draw_figure(results, name, folder="figures"):
    """Run one draw script on the tables of a study and return the paths of its outputs."""
    suffixes = {"pdf": "pdf", "png": "png", "caption": "md"}
    output = {key: str(results / folder / f"{name}.{suffix}") for key, suffix in suffixes.items()}
    run_script(
        "draw_figure",
        input={
            **{table: str(results / f"tables/{table}.parquet") for table in FIGURE_INPUTS[name]},
            "outdated": str(results / "outdated.json"),
        },
        output=output,
        params={
            "figure": name,
            "engine": "sevennet",
            "model": "7net-0",
            "bonding_engine": "tblite",
            "temperature_k": 300,
        },
    )
    return output


def summarise(results, figures):
    """Run the summary script on a study whose figures are drawn, and return the paths of its outputs."""
    names = ["table1", "status", "timings", "phonons", "transport", "modes", "bonding", "bonds", "rounds"]
    names += ["round_errors", "histories", "force_errors"]
    published = ROOT / "resources/published"
    tables = {name: str(results / f"tables/{name}.parquet") for name in names}
    tables["filter_records"] = str(results / "structures/filter_records.parquet")
    output = {"markdown": str(results / "summary.md"), "html": str(results / "summary.html")}
    output["headline"], output["headline_csv"] = (str(results / f"tables/headline.{end}") for end in ("parquet", "csv"))
    run_script(
        "write_summary",
        input={
            **tables,
            "figures": [str(results / f"figures/{name}.png") for name in figures],
            "captions": [str(results / f"figures/{name}.md") for name in figures],
            "numbers": str(published / "numbers.yaml"),
            "dft": str(ROOT / "resources/dft_comparison.yaml"),
            "screened": str(ROOT / "resources/screening/screening.parquet"),
            "confirmed": str(ROOT / "resources/screening/confirmation.csv"),
            "outdated": str(results / "outdated.json"),
            "pretrained": [],
            "compounds": [],
            "contradictions": str(published / "contradictions.yaml"),
            "check_supercell_size": str(results / "checks/supercell_size.parquet"),
            "check_transport": str(results / "checks/transport.parquet"),
            "check_force_constants": str(results / "checks/force_constants.parquet"),
        },
        output=output,
        params={"engine": "sevennet", "model": "7net-0", "bonding_engine": "tblite",
                "displacement_angstrom": 0.03, "threshold_mev_per_angstrom": 50},
    )  # fmt: skip
    return output


def published_numbers():
    return yaml.safe_load((ROOT / "resources/published/numbers.yaml").read_text())
