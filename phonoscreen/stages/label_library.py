"""Labels of thousands of compounds by a universal potential: relaxed crystals, displaced supercells, strained cells.

``python -m phonoscreen.stages.label_library POOL FOLDER`` draws compounds of a pool in the
proportions of Table 1, test compounds among them, and writes chunks of 50 to the folder. Every beginning of the work
has the same proportions. A chunk appears when it is complete; a run that was stopped continues at the first missing one
and makes the same files as a run that was not.
"""

import argparse
import json
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy
import pandas
import yaml
from ase import Atoms
from numpy.typing import NDArray

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError, culprit
from phonoscreen.audit.provenance import file_sha256, packages
from phonoscreen.audit.seeds import derive_seed
from phonoscreen.audit.shipped import shipped
from phonoscreen.structures.formulas import composition_key
from phonoscreen.structures.free_parameters import lattice_constant_angstrom
from phonoscreen.structures.prototypes import build_structure, read_prototypes
from phonoscreen.structures.relaxation import relax
from phonoscreen.structures.store import structure_arrays
from phonoscreen.structures.supercells import build_supercell, random_displacements, repetitions_for

if TYPE_CHECKING:
    from phonoscreen.reference.nequix import NequixEngine

CHUNK = 50


@dataclass(frozen=True)
class LabelSettings:
    """What is calculated for a compound.

    Parameters
    ----------
    displacement_angstrom : length of every atom's displacement
    min_length_angstrom, test_min_length_angstrom : least length of the lattice vectors of a supercell
    atoms : displaced atoms wanted per training compound: small supercells are displaced more often
    supercells_max, test_supercells : most supercells of a training compound, supercells of a test compound
    strained : strained primitive cells
    strain : standard deviation of a strain component
    volume_strain : half the range of the uniform part of the strain
    force_max_ev_per_angstrom, stress_max_gpa, steps_max : limits of the relaxation
    """

    displacement_angstrom: float = 0.03
    min_length_angstrom: float = 7.5
    test_min_length_angstrom: float = 10.0
    atoms: int = 90
    supercells_max: int = 4
    test_supercells: int = 4
    strained: int = 4
    strain: float = 0.01
    volume_strain: float = 0.02
    force_max_ev_per_angstrom: float = 0.001
    stress_max_gpa: float = 0.02
    steps_max: int = 40


def draw_order(pool: pandas.DataFrame, shares: dict, tests: dict, excluded: set, seed: int) -> pandas.DataFrame:
    """Order in which compounds are labelled: every beginning has the proportions of the classes.

    Parameters
    ----------
    pool : table with ``structure_id, formula, prototype``
    shares : dict from class to its weight
    tests : dict from class to the number of test compounds; the first of every five compounds until 60 of them are
        labelled, later the first of every nine
    excluded : set of (class, composition), see ``composition_key``
    seed : decides the order inside the classes

    Returns
    -------
    pandas.DataFrame with the columns of the pool and ``role``, ``test`` or ``training``
    """
    members: dict[str, list] = {name: [] for name in shares}
    listed: Any = pool.itertuples(index=False)
    for row in sorted(listed, key=lambda row: derive_seed(seed, row.structure_id, "label")):
        name = "-".join(row.prototype.split("-")[:2])
        if name in members and (name, composition_key(row.formula)) not in excluded:
            members[name].append(row)
    held = {name: rows[: tests[name]] for name, rows in members.items()}
    training = proportional({name: members[name][tests[name] :] for name in members}, shares)
    test = proportional(held, {name: len(rows) for name, rows in held.items()})
    rows, at = [], 0
    while training or test:
        every = 5 if at < 300 else 9
        role = "test" if test and (at % every == 0 or not training) else "training"
        rows.append({**(test if role == "test" else training).pop(0)._asdict(), "role": role})
        at += 1
    return pandas.DataFrame(rows)


def proportional(members: Mapping[str, list], shares: Mapping[str, float]) -> list:
    """Merge lists so that every beginning holds them in proportion to their shares, until they are exhausted.

    Parameters
    ----------
    members : list of rows by name
    shares : weight by name
    """
    total, taken, order = sum(shares.values()), dict.fromkeys(members, 0), []
    for step in range(1, sum(map(len, members.values())) + 1):
        open_lists = [name for name in members if taken[name] < len(members[name])]
        name = max(open_lists, key=lambda one: (shares[one] / total * step - taken[one], one))
        order.append(members[name][taken[name]])
        taken[name] += 1
    return order


def starting_structure(formula: str, structure_type: str, structure_types: Mapping[str, Any]) -> Atoms:
    """Crystal with touching covalent radii, scaled by the structure type's mean ratio (``lattice_scale``)."""
    atoms = build_structure(formula, structure_type, structure_types)
    scale = structure_types[structure_type].get("lattice_scale", 1.0)
    atoms.set_cell(atoms.cell * scale, scale_atoms=True)
    return atoms


def strains(settings: LabelSettings, rng: numpy.random.Generator) -> NDArray:
    """Symmetric strains (n, 3, 3): a uniform part and random components."""
    shear = settings.strain * rng.standard_normal((settings.strained, 3, 3))
    uniform = rng.uniform(-settings.volume_strain, settings.volume_strain, settings.strained)
    return (shear + shear.swapaxes(1, 2)) / 2 + uniform[:, None, None] * numpy.eye(3)


def strained_cell(atoms: Atoms, strain: NDArray) -> Atoms:
    """The crystal under a homogeneous strain, atoms at their old fractional coordinates."""
    moved = atoms.copy()
    moved.set_cell(atoms.cell.array @ (numpy.eye(3) + strain), scale_atoms=True)
    return moved


def plan_supercells(atoms: Atoms, role: str, settings: LabelSettings) -> tuple[tuple, int]:
    """Repetitions and number of the displaced supercells of a compound; at least two cells along every vector."""
    length = settings.test_min_length_angstrom if role == "test" else settings.min_length_angstrom
    repetitions = tuple(max(2, n) for n in repetitions_for(atoms.cell, len(atoms), length, 1000))
    count = len(atoms) * int(numpy.prod(repetitions))
    wanted = int(numpy.clip(numpy.ceil(settings.atoms / count), 1, settings.supercells_max))
    return repetitions, settings.test_supercells if role == "test" else wanted


def label_compound(
    engine: "NequixEngine", row: Any, structure_types: Mapping[str, Any], settings: LabelSettings, seed: int
) -> tuple[dict, dict]:
    """Relax a compound and label its displaced supercells and strained cells.

    Parameters
    ----------
    engine : reference engine with ``evaluate_many``
    row : with ``structure_id, formula, prototype, role``
    structure_types : mapping of ``resources/prototypes.yaml``
    seed : of the displacements and strains, with the structure id

    Returns
    -------
    arrays : of the relaxed crystal (``structure_arrays``), ``repetitions``, ``displacements``, ``forces``,
        ``energies_ev``, ``stresses`` of the supercells, the same of the strained cells under ``strained/``, and
        ``strained/strains``; {} without a relaxed crystal
    record : ``structure_id, formula, prototype, role, status, reason`` and what the relaxation left
    """
    record = {name: getattr(row, name) for name in ("structure_id", "formula", "prototype", "role")}
    try:
        start = starting_structure(row.formula, row.prototype, structure_types)
        relaxed = relax(
            start, lambda moved, step: engine.evaluate(moved, f"{row.structure_id}/relax-{step}"),
            force_max_ev_per_angstrom=settings.force_max_ev_per_angstrom, stress_max_gpa=settings.stress_max_gpa,
            steps_max=settings.steps_max, tolerance_angstrom=1e-3,
        )  # fmt: skip
        atoms = relaxed.atoms
        record |= {
            "lattice_constant_angstrom": lattice_constant_angstrom(atoms),
            "start_angstrom": lattice_constant_angstrom(start), "energy_ev": relaxed.energy_ev,
            "force_max_ev_per_angstrom": relaxed.force_max_ev_per_angstrom, "pressure_gpa": relaxed.pressure_gpa,
            "steps": relaxed.steps,
        }  # fmt: skip
        if not relaxed.converged:
            left = f"{relaxed.force_max_ev_per_angstrom:.4f} eV/angstrom and {relaxed.pressure_gpa:.3f} GPa"
            return {}, {**record, "status": "not_converged", "reason": f"{left} left after {relaxed.steps} steps"}
        return _label(engine, atoms, row, settings, seed), {**record, "status": "ok", "reason": ""}
    except StudyError as error:
        return {}, {**record, "status": "failed", "reason": error.what, "failure": culprit(error)}


def _label(engine, atoms, row, settings, seed):
    repetitions, count = plan_supercells(atoms, row.role, settings)
    supercell = build_supercell(atoms, repetitions)
    rng = numpy.random.default_rng(derive_seed(seed, row.structure_id, "displacements"))
    moves = random_displacements(count, len(supercell), settings.displacement_angstrom, rng)
    moves = moves.astype(numpy.float32)
    moved = [supercell.copy() for _ in moves]
    for one, displacement in zip(moved, moves, strict=True):
        one.positions += displacement
    strain = strains(settings, numpy.random.default_rng(derive_seed(seed, row.structure_id, "strains")))
    results = [engine.evaluate(one, row.structure_id) for one in moved]
    strained = engine.evaluate_many([strained_cell(atoms, one) for one in strain], row.structure_id)
    arrays = {**structure_arrays(atoms), "repetitions": numpy.array(repetitions), "displacements": moves}
    for prefix, found in (("", results), ("strained/", strained)):
        arrays[f"{prefix}energies_ev"] = numpy.array([energy for energy, _, _ in found])
        arrays[f"{prefix}forces"] = numpy.array([forces for _, forces, _ in found], dtype=numpy.float32)
        arrays[f"{prefix}stresses"] = numpy.array([stress for _, _, stress in found], dtype=numpy.float32)
    arrays["strained/strains"] = strain
    return arrays


def write_chunk(path: Path, labelled: list, provenance: dict) -> None:
    """Write the compounds of a chunk: a group per structure id, its record and the chunk's provenance as attributes."""
    with written_whole(path) as partial, h5py.File(partial, "w") as store:
        for key, value in provenance.items():
            store.attrs[key] = value
        store.attrs["records"] = json.dumps([record for _, record in labelled])
        for arrays, record in labelled:
            group = store.create_group(record["structure_id"])
            group.attrs["record"] = json.dumps(record)
            for name, array in arrays.items():
                group.create_dataset(name, data=array)


def provenance_of(engine: "NequixEngine", settings: LabelSettings, pool: Path, weights_sha256: str, seed: int) -> dict:
    """What a chunk says about its origin: engine, weights, settings, seed, pool, code and packages."""
    folder = Path(__file__).resolve().parents[2]
    commit = subprocess.run(
        ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "engine": engine.name, "weights_sha256": weights_sha256, "seed": seed, "pool_sha256": file_sha256(pool),
        "settings": json.dumps(asdict(settings)), "code": commit.stdout.strip() or "unknown",
        "packages": json.dumps(packages()),
    }  # fmt: skip


def class_and_composition(record: Any) -> tuple[str, frozenset]:
    """Class and composition of a compound of ``formula`` and ``prototype``, whatever variant of its class it is."""
    return "-".join(record["prototype"].split("-")[:2]), composition_key(record["formula"])


def excluded_classes(paths: Iterable[str | Path]) -> set:
    """Set of (class, composition) of the compounds of some CSV files with ``formula, prototype``."""
    tables = [pandas.read_csv(path, dtype=str, keep_default_na=False) for path in paths]
    return {class_and_composition(row) for table in tables for _, row in table.iterrows()}


def read_shares(path: str | Path) -> dict:
    """Compounds calculated by DFT in Table 1, by class."""
    with open(path) as stream:
        rows = yaml.safe_load(stream)["classes"]
    return {f"{number}-{kind}": calculated for number, kind, calculated, *_ in rows}


def run(
    engine: "NequixEngine",
    order: pandas.DataFrame,
    folder: Path,
    structure_types: dict,
    settings: LabelSettings,
    seed: int,
    provenance: dict,
    first: int = 0,
) -> None:
    """Label the compounds of an order in chunks, from the one that holds ``first`` on; chunks that exist are kept.

    ``progress.csv`` gets a line per chunk made: number, compounds, those not ok, CPU seconds and wall seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first // CHUNK, -(-len(order) // CHUNK)):
        path = folder / f"labels-{number:05d}.h5"
        if path.exists():
            continue
        begin, wall = time.process_time(), time.time()
        rows = order.iloc[number * CHUNK : (number + 1) * CHUNK].itertuples(index=False)
        labelled = [label_compound(engine, row, structure_types, settings, seed) for row in rows]
        write_chunk(path, labelled, provenance)
        bad = sum(record["status"] != "ok" for _, record in labelled)
        with open(folder / "progress.csv", "a") as stream:
            cpu, seconds = time.process_time() - begin, time.time() - wall
            stream.write(f"{number},{len(labelled)},{bad},{cpu:.1f},{seconds:.1f}\n")


def main() -> None:
    """Label the compounds of a pool."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pool", type=Path, help="CSV: structure_id, formula, prototype (and role)")
    parser.add_argument("folder", type=Path, help="where the chunks go")
    parser.add_argument("--model", default="nequix-oam-1-pft")
    parser.add_argument("--weights", help="file of the weights; downloaded once without it")
    parser.add_argument("--exclude", help="CSV of compounds to leave out: formula, prototype")
    parser.add_argument("--compounds", type=int, default=3650, help="compounds to label, test compounds included")
    parser.add_argument(
        "--first", type=int, default=0, help="place in the order to begin with, such as 3650 to add to kept labels"
    )
    parser.add_argument("--test", type=int, default=400, help="test compounds, in the proportions of Table 1")
    parser.add_argument("--test-least", type=int, default=8, help="test compounds of the smallest classes")
    parser.add_argument(
        "--as-listed", action="store_true", help="label the pool's rows in their order and with their roles"
    )
    parser.add_argument("--seed", type=int, default=61)
    parser.add_argument("--prototypes", default=shipped("resources/prototypes.yaml"))
    parser.add_argument("--table1", default=shipped("resources/published/table1.yaml"))
    arguments = parser.parse_args()
    if arguments.as_listed and arguments.exclude:
        parser.error("--exclude has no effect with --as-listed: leave these compounds out of the list")
    from phonoscreen.formats.weights import WEIGHTS
    from phonoscreen.reference.nequix import NequixEngine

    shares = read_shares(arguments.table1)
    total = sum(shares.values())
    tests = {name: max(arguments.test_least, round(arguments.test * n / total)) for name, n in shares.items()}
    excluded = excluded_classes([arguments.exclude] if arguments.exclude else [])
    pool = pandas.read_csv(arguments.pool, dtype=str, keep_default_na=False)
    order = pool if arguments.as_listed else draw_order(pool, shares, tests, excluded, arguments.seed)
    order = order.iloc[: arguments.compounds]
    engine, settings = NequixEngine(arguments.model, arguments.weights), LabelSettings()
    provenance = provenance_of(engine, settings, arguments.pool, WEIGHTS[arguments.model], arguments.seed)
    structure_types = read_prototypes(arguments.prototypes)["structure_types"]
    run(engine, order, arguments.folder, structure_types, settings, arguments.seed, provenance, arguments.first)


if __name__ == "__main__":
    main()
