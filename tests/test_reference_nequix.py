"""Engine nequix: its weights are verified; padding changes nothing; forces and stress are derivatives of the energy.

Most of it runs in the engine's own environment: ``make test-nequix``.
"""

import numpy
import pytest
from ase.build import bulk

from phonoscreen.audit.errors import StudyError
from phonoscreen.formats.weights import find_weights
from phonoscreen.reference.nequix import GRAPHS, NequixEngine, padded_shape

MODEL = "nequix-oam-1-pft"


@pytest.fixture(scope="module")
def weights(reference):
    return reference / "weights" / f"{MODEL}.nqx"


@pytest.fixture(scope="module")
def engine(weights):
    pytest.importorskip("nequix", reason="the package nequix is not in this environment: make test-nequix")
    return NequixEngine(MODEL, str(weights))


@pytest.fixture(scope="module")
def salt():
    atoms = bulk("NaCl", "rocksalt", a=5.69).repeat((2, 2, 1))
    atoms.positions += 0.05 * numpy.random.default_rng(3).standard_normal(atoms.positions.shape)
    return atoms


def test_weights_are_verified_by_their_content(tmp_path, weights, monkeypatch):
    assert find_weights(MODEL, str(weights)) == weights
    monkeypatch.setenv("PHONOSCREEN_WEIGHTS", str(weights.parent))
    assert find_weights(MODEL) == weights
    damaged = tmp_path / f"{MODEL}.nqx"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(StudyError, match="sha256"):
        find_weights(MODEL, str(damaged))


def test_wrong_models_and_missing_files_are_refused(tmp_path, monkeypatch):
    with pytest.raises(StudyError, match="nequix-oam-1-pft"):
        find_weights("nequix-9")
    monkeypatch.setenv("PHONOSCREEN_WEIGHTS", str(tmp_path))
    with pytest.raises(StudyError, match="PHONOSCREEN_WEIGHTS"):
        find_weights(MODEL)


def test_a_failed_download_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.delenv("PHONOSCREEN_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def refuse(url, path):
        open(path, "w").write("half of it")
        raise OSError("connection reset")

    monkeypatch.setattr("urllib.request.urlretrieve", refuse)
    with pytest.raises(StudyError, match="connection reset"):
        find_weights(MODEL)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_damaged_download_is_not_used(tmp_path, monkeypatch):
    monkeypatch.delenv("PHONOSCREEN_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlretrieve", lambda url, path: open(path, "w").write("a login page"))
    with pytest.raises(StudyError, match="sha256"):
        find_weights(MODEL)


@pytest.mark.parametrize("nodes, edges", [(1, 0), (2, 90), (15, 512), (16, 513), (64, 4992), (128, 11000), (250, 3000)])
def test_a_shape_holds_its_graph_and_a_node_of_padding(nodes, edges):
    shape = padded_shape(nodes, edges)
    assert shape[0] >= nodes + 1 and shape[1] >= edges


def test_shapes_are_few():
    shapes = {padded_shape(nodes, 40 * nodes) for nodes in range(1, 300)}
    assert len(shapes) <= 10


def test_energy_forces_and_stress_are_those_of_the_package(engine, salt, weights):
    from nequix.calculator import NequixCalculator

    energy, forces, stress = engine.evaluate(salt)
    atoms = salt.copy()
    atoms.calc = NequixCalculator(model_path=str(weights), backend="jax", use_kernel=False)
    # Single precision: the package's own results change by as much with the order of the atoms.
    assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
    assert forces == pytest.approx(atoms.get_forces(), abs=5e-6)
    assert stress == pytest.approx(atoms.get_stress(voigt=False), abs=5e-7)


def test_structures_of_one_call_do_not_see_each_other(engine, salt):
    others = [bulk("GaAs", "zincblende", a=a) for a in numpy.linspace(5.4, 5.9, GRAPHS)]
    together = engine.evaluate_many([salt, *others])
    assert len(together) == GRAPHS + 1
    for atoms, (energy, forces, stress) in zip([salt, *others], together, strict=True):
        alone = engine.evaluate(atoms)
        assert energy == pytest.approx(alone[0], abs=2e-5)
        assert forces == pytest.approx(alone[1], abs=5e-6)
        assert stress == pytest.approx(alone[2], abs=5e-7)


def test_forces_and_stress_are_derivatives_of_the_energy(engine, salt):
    _, forces, stress = engine.evaluate(salt)
    direction = numpy.random.default_rng(5).standard_normal(forces.shape)
    strain = numpy.array([[0.5, 0.2, 0.0], [0.2, -0.3, 0.1], [0.0, 0.1, 0.9]])

    def energy(step, strained):
        moved = salt.copy()
        if strained:
            moved.set_cell(salt.cell.array @ (numpy.eye(3) + step * strain), scale_atoms=True)
        else:
            moved.positions += step * direction
        return engine.evaluate(moved)[0]

    def slope(strained, step=0.01):
        """Fourth-order difference: energies in single precision allow no shorter step."""
        near, far = (energy(n * step, strained) - energy(-n * step, strained) for n in (1, 2))
        return (8 * near - far) / (12 * step)

    assert slope(False) == pytest.approx(-(forces * direction).sum(), rel=0.005)
    assert slope(True) == pytest.approx((stress * strain).sum() * salt.cell.volume, rel=0.005)


def test_an_unknown_element_and_a_bad_geometry_are_refused(engine, salt):
    with pytest.raises(StudyError, match="Po"):
        engine.evaluate(bulk("Po", "sc", a=3.4), "po-221")
    salt = salt.copy()
    salt.positions[1] = salt.positions[0] + 0.1
    with pytest.raises(StudyError, match="apart"):
        engine.evaluate(salt, "bad")
