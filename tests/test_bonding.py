"""COHP: sum rules, invariances, agreement with outputs of LOBSTER, and the script."""

import functools
import runpy

import h5py
import numpy
import pandas
import pytest
from ase import Atoms
from ase.build import bulk

from phonoscreen.audit.errors import StudyError
from phonoscreen.bonding.cohp import (
    bonding_and_antibonding,
    cohp_of_pairs,
    fermi_of_tetrahedra,
    integrate_to_fermi,
    reconstructed_descriptors,
)
from phonoscreen.bonding.engines import find_cohp
from phonoscreen.bonding.kept import read_cohp
from phonoscreen.bonding.lobster import read_lobster, write_lobster
from phonoscreen.bonding.orbitals import orthonormal_hamiltonian
from phonoscreen.bonding.selection import order_of_structures
from phonoscreen.bonding.tetrahedra import states_below, tetrahedra_of
from phonoscreen.bonding.xtb import solve_xtb
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.mesh import build_mesh
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def silicon():
    return Crystal.from_ase(bulk("Si", a=5.43))


@pytest.fixture(scope="module")
def hamiltonian(silicon):
    return orthonormal_hamiltonian(solve_xtb(silicon, min_length_angstrom=7.0))


@pytest.fixture(scope="module")
def cohp(hamiltonian):
    return cohp_of_pairs(hamiltonian, mesh_density_angstrom=25)


def test_curves_integrate_to_the_listed_strengths(cohp):
    assert integrate_to_fermi(cohp.energies_ev, cohp.curves) == pytest.approx(cohp.icohp_ev, abs=1e-3)


def test_bonding_minus_antibonding_is_the_mean_strength(cohp):
    bonding, antibonding = bonding_and_antibonding(cohp)
    assert bonding > 0 and antibonding >= 0
    assert bonding - antibonding == pytest.approx(-cohp.icohp_ev.mean(), abs=1e-4)


def test_on_site_part_and_all_pairs_sum_to_the_band_energy(silicon, hamiltonian):
    every = cohp_of_pairs(hamiltonian, cutoff_angstrom=16.0, mesh_density_angstrom=20)
    mesh = build_mesh(silicon, (7, 7, 7))
    corners, weights = tetrahedra_of(mesh)
    energies, vectors = numpy.linalg.eigh(hamiltonian.at(mesh.fractional[mesh.irreducible]))
    fermi = fermi_of_tetrahedra(energies, corners, weights, hamiltonian.n_electrons)
    home = hamiltonian.values[0, (hamiltonian.cells == 0).all(axis=1)][0]
    same = hamiltonian.atoms[:, None] == hamiltonian.atoms
    on_site = numpy.einsum("kmn,ml,kln->kn", vectors[0].conj(), home * same, vectors[0]).real
    both = numpy.stack([energies[0], on_site], axis=-1)
    band_energy, diagonal = 2 * states_below(energies[0], both, corners, weights, numpy.array([fermi]))[0]
    directions = numpy.where(every.atoms[:, 0] == every.atoms[:, 1], 1, 2)
    assert diagonal + directions @ every.icohp_ev == pytest.approx(band_energy, rel=1e-4)


def test_tetrahedra_hold_a_band_exactly(silicon):
    """A free-electron-like band: all states below its top, half of a linear one below its middle."""
    mesh = build_mesh(silicon, (5, 5, 5))
    corners, weights = tetrahedra_of(mesh)
    level = numpy.cos(2 * numpy.pi * mesh.fractional[mesh.irreducible]).sum(axis=1)[:, None]
    ones = numpy.ones((*level.shape, 1))
    limits = numpy.linspace(level.min() - 0.1, level.max() + 0.1, 50)
    held = states_below(level, ones, corners, weights, limits)[:, 0]
    assert held[0] == 0 and held[-1] == pytest.approx(1) and (numpy.diff(held) >= -1e-12).all()
    flat = states_below(numpy.zeros_like(level), ones, corners, weights, numpy.array([-0.1, 0.0, 0.1]))[:, 0]
    assert flat == pytest.approx([0, 1, 1])


def test_reconstructed_descriptors_differ_by_the_relevant_icohp(cohp):
    bonding, antibonding = reconstructed_descriptors(cohp)
    chosen = cohp.icohp_ev <= 0.1 * cohp.icohp_ev.min()
    assert bonding - antibonding == pytest.approx(-96.485 * cohp.icohp_ev[chosen].mean(), rel=1e-3)


def test_rotation_changes_nothing(silicon, cohp):
    turn, _ = numpy.linalg.qr(numpy.random.default_rng(0).normal(size=(3, 3)))
    turned = Crystal(silicon.cell @ turn, silicon.scaled_positions, silicon.numbers, silicon.masses)
    again = cohp_of_pairs(orthonormal_hamiltonian(solve_xtb(turned, min_length_angstrom=7.0)), mesh_density_angstrom=25)
    assert bonding_and_antibonding(again) == pytest.approx(bonding_and_antibonding(cohp), rel=1e-3)


def test_an_atom_given_several_cells_away_has_the_same_bonds_between_the_right_cells(silicon, cohp, monkeypatch):
    import phonoscreen.bonding.xtb as xtb
    from phonoscreen.bonding import engines

    monkeypatch.setattr(xtb, "solve_xtb", functools.partial(solve_xtb, min_length_angstrom=7.0))
    monkeypatch.setattr(engines, "cohp_of_pairs", functools.partial(cohp_of_pairs, mesh_density_angstrom=25))
    monkeypatch.setattr(engines, "COMPARISON_MESH_ANGSTROM", 10.0)
    away = silicon.scaled_positions + [[0, 0, 0], [5, -3, 0]]
    moved = Crystal(silicon.cell, away, silicon.numbers, silicon.masses)
    found = find_cohp(moved, "moved", engine="tblite")
    separations = (away[found.atoms[:, 1]] + found.translations - away[found.atoms[:, 0]]) @ silicon.cell
    assert numpy.linalg.norm(separations, axis=1) == pytest.approx(found.distances_angstrom)
    assert found.icohp_ev == pytest.approx(cohp.icohp_ev, abs=1e-4)


def test_files_survive_writing_and_reading(cohp, tmp_path):
    write_lobster(cohp, tmp_path)
    again = read_lobster(tmp_path)
    assert numpy.array_equal(again.atoms, cohp.atoms) and numpy.array_equal(again.translations, cohp.translations)
    assert again.icohp_ev == pytest.approx(cohp.icohp_ev, abs=1e-5)
    assert again.curves == pytest.approx(cohp.curves, abs=1e-5)


@pytest.mark.parametrize("name", ["NaCl", "NaCl_spin", "CdF2", "diamond"])
def test_lobster_curves_and_list_agree(reference, name):
    found = read_lobster(reference / "lobster" / name)
    total = integrate_to_fermi(found.energies_ev, found.curves) + found.below_ev
    assert total == pytest.approx(found.icohp_ev, abs=0.025)


@pytest.mark.parametrize(("name", "low", "high"), [("NaCl", 0.75, 1.25), ("diamond", 0.75, 1.25), ("CdF2", 0.5, 1.0)])
def test_nearest_bond_against_lobster(reference, name, low, high):
    """The limits are those stated in docs/bonding.md; CdF2 lacks the 4d shell of Cd."""
    from phonoscreen.bonding.validate import compare

    bonds, _, _ = compare(reference / "lobster" / name, "tblite")
    _, _, theirs, ours = bonds[0]
    assert low < ours / theirs < high


def test_bad_input_gets_an_error(silicon, tmp_path):
    broken = Crystal(silicon.cell * numpy.nan, silicon.scaled_positions, silicon.numbers, silicon.masses)
    for crystal, options in (
        (broken, {"engine": "tblite"}),
        (silicon, {"engine": "nothing"}),
        (silicon, {"engine": "lobster"}),
        (silicon, {"engine": "lobster", "outputs": tmp_path}),
    ):
        with pytest.raises(StudyError):
            find_cohp(crystal, "si", **options)
    flat = Crystal.from_ase(Atoms("H", cell=numpy.zeros((3, 3))))
    with pytest.raises(StudyError):
        find_cohp(flat, "h", engine="tblite")


def test_order_takes_every_class_in_turn():
    manifest = pandas.DataFrame(
        {"structure_id": list("abcdef"), "prototype": ["x"] * 4 + ["y"] * 2, "n_atoms": [2] * 4 + [3] * 2}
    )
    order = order_of_structures(manifest, seed=1)
    assert set("ef") < set(order[:4]) and set(order) == set("abcdef")
    assert order == order_of_structures(manifest[::-1], seed=1)
    assert order[0] in "abcd"  # the class of small cells comes first


@pytest.fixture
def shard(silicon, tmp_path):
    """Inputs of the script: silicon twice, a structure whose conductivity failed, and one that did not relax."""
    ids = ["si-1", "si-2", "unsolved", "unrelaxed"]
    manifest = pandas.DataFrame({"structure_id": ids, "formula": "Si", "prototype": "227-A", "n_atoms": 2})
    relaxed = manifest.assign(stage="relax_structures", status=["ok"] * 3 + ["failed"], reason=["", "", "", "no"])
    transport = manifest.assign(stage="solve_bte", status=["ok", "ok", "failed", "skipped"], reason=["", "", "a", "b"])
    paths = {name: str(tmp_path / name) for name in ("manifest", "relaxed", "relaxed_records", "transport_records")}
    manifest.to_parquet(paths["manifest"])
    relaxed.to_parquet(paths["relaxed_records"])
    transport.to_parquet(paths["transport_records"])
    with h5py.File(paths["relaxed"], "w") as store:
        for structure_id in ids[:3]:
            group = store.create_group(structure_id)
            group["cell"], group["numbers"] = silicon.cell, silicon.numbers
            group["scaled_positions"] = silicon.scaled_positions
    return paths


def test_script_records_every_structure(shard, make_job, monkeypatch, tmp_path, cohp):
    write_lobster(cohp, tmp_path / "lobster/si-1")
    job = make_job(
        input=shard,
        output={"arrays": "bonding.h5", "records": "bonding.parquet"},
        params={
            "engine": "lobster",
            "outputs": str(tmp_path / "lobster"),
            "structures_max": None,
            "budget_cpu_minutes": None,
            "seed": 1,
        },
    )
    monkeypatch.setattr("phonoscreen.audit.job.run_job", lambda job, main: main(job))
    runpy.run_path(str(ROOT / "scripts/analyse_bonding.py"), init_globals={"snakemake": job})
    records = pandas.read_parquet(job.output.records).set_index("structure_id")
    assert records["status"].to_list() == ["ok", "failed", "skipped", "skipped"]
    assert "lobster/si-2" in records.loc["si-2", "reason"]
    found = records.loc["si-1", ["bonding_ev", "antibonding_ev"]].astype(float)
    assert found.to_numpy() == pytest.approx(bonding_and_antibonding(cohp), abs=1e-4)
    with h5py.File(job.output.arrays) as store:
        assert list(store) == ["si-1"]
        assert store["si-1/cohp"].shape == (len(cohp.bond_types()), len(cohp.energies_ev))


def test_files_of_ours_are_described_by_lobsterpy(silicon, cohp):
    from phonoscreen.bonding.description import describe

    found = describe(cohp, silicon)
    assert "tetrahedral (CN=4)" in found.text and found.which_bonds == "all"


@pytest.mark.parametrize(
    ("name", "environment"), [("NaCl_comp_range", "octahedral (CN=6)"), ("BeTe", "tetrahedral (CN=4)")]
)
def test_files_of_lobster_are_described_and_their_spilling_read(reference, name, environment):
    from phonoscreen.bonding.description import describe_folder

    assert environment in describe_folder(reference / "lobster" / name).text
    assert 0.001 < read_lobster(reference / "lobster" / name).spilling < 0.02


def test_a_window_that_cuts_low_bands_is_noticed(reference):
    full, cut = (read_lobster(reference / "lobster" / name) for name in ("NaCl_comp_range", "NaCl"))
    assert not any("COHPstartEnergy" in sentence for sentence in full.all_warnings())
    assert "COHPstartEnergy" in cut.all_warnings()[0]


def test_an_antibonding_part_that_is_a_small_remainder_is_marked(reference):
    """0.29 kJ/mol of a bond of 55 in NaCl; nothing is said of Si, which has none, and of the tenth part in KCl."""
    marked = read_lobster(reference / "lobster/NaCl_comp_range").all_warnings()
    assert len(marked) == 1 and "(0.29 kJ/mol) is 0.5% of the bonding part" in marked[0]
    with h5py.File(ROOT / "resources/bonding/cohp.h5") as store:
        said = {name: read_cohp(store[name])[1].all_warnings() for name in ("kcl-225", "nacl-225", "si-227")}
    counted = {name: sum("of the bonding part" in one for one in warnings) for name, warnings in said.items()}
    assert counted == {"kcl-225": 0, "nacl-225": 1, "si-227": 0}


def test_command_reads_the_outputs_of_lobster(reference, tmp_path, capsys, monkeypatch):
    from phonoscreen.__main__ import main
    from phonoscreen.commands import bonding

    folder = reference / "lobster" / "NaCl_comp_range"
    assert main(["bonding", str(folder), "--output", str(tmp_path / "out")]) == 0
    assert "octahedral" in capsys.readouterr().out
    assert read_lobster(tmp_path / "out").icohp_ev == pytest.approx(read_lobster(folder).icohp_ev, abs=1e-4)
    assert main(["bonding", str(tmp_path / "nothing.cif")]) == 2

    def full(cohp, path):
        raise OSError("No space left on device")

    monkeypatch.setattr(bonding, "_draw", full)
    assert main(["bonding", str(folder), "--output", str(tmp_path / "none")]) != 0
    assert not (tmp_path / "none").exists() and not list(tmp_path.glob(".phonoscreen-*"))  # all of its files, or none
