"""Nequix, a universal potential whose weights are a file of their own.

Koker, Gangan, Kotak, Marian and Smidt, arXiv:2508.16067 (2025); fine-tuned on force constants: arXiv:2601.07742 (2026).
The package ``nequix`` holds the model (environment ``envs/nequix.yaml``). Two things are ours: graphs are padded to few
shapes, because JAX compiles anew for each, and the convolution is ``phonoscreen.reference.tensor_convolution``.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
from ase import Atoms
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal.geometry import check_geometry
from phonoscreen.formats.weights import find_weights
from phonoscreen.reference.base import check_results
from phonoscreen.reference.tensor_convolution import Paths, convolve, convolve_derivative, make_paths

EDGES_LEAST, EDGES_RATIO, EDGES_PER_NODE = 512, 1.5, 32
GRAPHS = 8


def padded_shape(n_nodes: int, n_edges: int) -> tuple[int, int]:
    """Return the shape (nodes, edges) that a graph is padded to, one of a geometric series.

    Edges decide the cost; a node costs as much as two edges, so that one padded node in sixteen edges is cheap.
    The shape holds at least one node more than the graph: edges that are padding end there.
    """
    edges = EDGES_LEAST
    while edges < n_edges or edges // EDGES_PER_NODE < n_nodes + 1:
        edges = 16 * int(numpy.ceil(edges * EDGES_RATIO / 16))
    return edges // EDGES_PER_NODE, edges


class NequixEngine:
    """Reference engine of a Nequix model.

    Parameters
    ----------
    model : name of the weights
    weights : file of the weights, or None (see ``phonoscreen.formats.weights``)

    Raises
    ------
    StudyError
        If the package or the weights are missing.
    """

    kind, relaxes = "nequix", True

    def __init__(self, model: str, weights: str | None = None):
        # JAX copies the arguments of a callback in a second thread; with a pool of one it would wait for itself.
        os.environ.setdefault("PJRT_NPROC", "4")
        os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
        try:
            import equinox
            import jax
            from nequix.model import load_model
        except ImportError as error:
            raise StudyError(
                f"the package nequix cannot be imported: {error}", where="config reference.engine",
                fix="run with --sdm conda, or install envs/nequix.yaml (make .venv-nequix/.complete)",
            ) from error  # fmt: skip
        jax.config.update("jax_cpu_enable_async_dispatch", False)
        self.name, self.model = f"{model} (Nequix universal potential)", model
        network, config = load_model(find_weights(model, weights), kernel=False)
        for number, layer in enumerate(network.layers):
            inputs = config["hidden_irreps"] if number else f"{len(config['atomic_numbers'])}x0e"
            _use_convolution(layer, inputs, config["lmax"])
        self._cutoff = float(config["cutoff"])
        self._index = {int(number): index for index, number in enumerate(sorted(config["atomic_numbers"]))}
        self.elements = set(self._index)
        self._call = equinox.filter_jit(network)

    def evaluate_many(self, structures: list[Atoms], label: str | None = None) -> list[tuple[float, NDArray, NDArray]]:
        """Return energy (eV), forces (n_atoms, 3) in eV/angstrom and stress (3, 3) in eV/angstrom^3 of each structure.

        Up to seven structures are one call.
        """
        results = []
        for first in range(0, len(structures), GRAPHS - 1):
            results += self._evaluate(structures[first : first + GRAPHS - 1], label)
        return results

    def evaluate(self, atoms: Atoms, label: str | None = None) -> tuple[float, NDArray, NDArray]:
        """Return energy (eV), forces (eV/angstrom) and stress (3, 3) in eV/angstrom^3, positive under tension."""
        return self.evaluate_many([atoms], label)[0]

    def forces(self, atoms: Atoms, label: str | None = None) -> tuple[float, NDArray]:
        """Return energy (eV) and forces (n_atoms, 3) in eV/angstrom."""
        return self.evaluate(atoms, label)[:2]

    def _evaluate(self, structures, label):
        import jraph

        graphs = [self._graph(atoms, label) for atoms in structures]
        n_nodes, n_edges = [len(graph["species"]) for graph in graphs], [len(graph["senders"]) for graph in graphs]
        nodes, edges = padded_shape(sum(n_nodes), sum(n_edges))
        spare = GRAPHS - len(graphs)
        offsets = numpy.cumsum([0, *n_nodes[:-1]])

        def joined(name, size, fill, shift=False):
            parts = [graph[name] + (offset if shift else 0) for graph, offset in zip(graphs, offsets, strict=True)]
            values = numpy.concatenate(parts)
            padding = numpy.full((size - len(values), *values.shape[1:]), fill, dtype=values.dtype)
            return numpy.concatenate([values, padding])

        cells = numpy.zeros((GRAPHS, 3, 3), dtype=numpy.float32)
        cells[: len(graphs)] = [graph["cell"] for graph in graphs]
        counts = [
            numpy.array([*real, size - sum(real), *[0] * (spare - 1)], dtype=numpy.int32)
            for real, size in ((n_nodes, nodes), (n_edges, edges))
        ]
        graph = jraph.GraphsTuple(
            n_node=counts[0], n_edge=counts[1],
            nodes={"species": joined("species", nodes, 0), "positions": joined("positions", nodes, 0), "forces": None},
            edges={"shifts": joined("shifts", edges, 0)},
            senders=joined("senders", edges, nodes - 1, True), receivers=joined("receivers", edges, nodes - 1, True),
            globals={"cell": cells, "energy": None, "stress": None},
        )  # fmt: skip
        energies, forces, stresses = (numpy.array(values, dtype=float) for values in self._call(graph))
        results = []
        for number, (offset, count) in enumerate(zip(offsets, n_nodes, strict=True)):
            energy, force = check_results(energies[number], forces[offset : offset + count], count, label)
            results.append((energy, force, stresses[number]))
        return results

    def _graph(self, atoms, label):
        from matscipy.neighbours import neighbour_list

        check_geometry(atoms, label)
        unknown = sorted(
            {symbol for symbol, z in zip(atoms.symbols, atoms.numbers, strict=True) if z not in self._index}
        )
        if unknown:
            raise StudyError(
                f"{self.name} does not know {', '.join(unknown)}", where=label,
                fix="leave these elements out of filter.elements, or use another reference.engine", blame="settings",
            )  # fmt: skip
        receivers, senders, shifts = neighbour_list(
            "ijS", positions=atoms.positions, cell=atoms.cell.array, pbc=[True] * 3, cutoff=self._cutoff
        )
        return {
            "species": numpy.array([self._index[int(z)] for z in atoms.numbers], dtype=numpy.int32),
            "positions": atoms.positions.astype(numpy.float32),
            "shifts": shifts.astype(numpy.float32),
            "cell": atoms.cell.array.astype(numpy.float32),
            "senders": senders.astype(numpy.int32),
            "receivers": receivers.astype(numpy.int32),
        }


def _use_convolution(layer, inputs, lmax):
    """Let a Nequix layer call ``Convolution`` (its attribute ``tp_conv``), which also does its last radial product."""
    import e3nn_jax

    inputs, harmonics = list(e3nn_jax.Irreps(inputs)), list(e3nn_jax.s2_irreps(lmax))
    kept = {irrep for _, irrep in layer.tp_irreps}
    instructions = []
    for one, (_, first) in enumerate(inputs):
        for two, (_, second) in enumerate(harmonics):
            instructions += [(one, two, irrep) for irrep in first * second if irrep in kept]
    # The outputs stand in the order of the paths, the weights in the order of the sorted outputs.
    ordered = [(*instructions[number][:2], number) for number in layer.tp_irreps.sort().inv]

    def coupling(l1, l2, l3):
        return e3nn_jax.clebsch_gordan(l1, l2, l3) * (2 * l3 + 1) ** 0.5

    channels = [[(mul, irrep.l) for mul, irrep in irreps] for irreps in (inputs, harmonics, layer.tp_irreps)]
    radial = layer.radial_mlp.layers
    if radial[-1].use_bias:
        raise StudyError("a radial network with a bias is not supported", where=f"layer of {inputs}")
    convolution = Convolution(
        make_paths(channels[0], channels[1], channels[2], ordered, coupling), numpy.array(radial[-1].weights)
    )
    radial[-1] = _unchanged
    # Modules of equinox are frozen; the two attributes are static, not weights.
    object.__setattr__(layer, "tp_conv", convolution)
    object.__setattr__(layer, "kernel", True)


def _unchanged(values):
    return values


class Convolution:
    """A tensor product and sum over neighbours that JAX can call and differentiate once.

    The weights of the paths are ``radial @ matrix``: they are made here, for real edges alone, since JAX's own product
    takes longer than all the rest.

    Parameters
    ----------
    paths : see ``phonoscreen.reference.tensor_convolution``
    matrix : (n_radial, n_weights) last layer of the radial network
    """

    def __init__(self, paths: Paths, matrix: NDArray):
        import jax
        from jax import numpy as jnp

        def weigh(radial, receivers, last):
            real = int(numpy.searchsorted(receivers == last, True))  # padding stands at the end
            return real, radial[:real] @ matrix

        def host_forward(*arrays):
            features, harmonics, radial, receivers, senders = map(numpy.asarray, arrays)
            real, weights = weigh(radial, receivers, len(features) - 1)
            return convolve(paths, features, harmonics, weights, receivers[:real], senders[:real])

        def host_backward(*arrays):
            gradient, features, harmonics, radial, receivers, senders = map(numpy.asarray, arrays)
            real, weights = weigh(radial, receivers, len(features) - 1)
            to_features, to_harmonics, to_weights = convolve_derivative(
                paths, gradient, features, harmonics[:real], weights, receivers[:real], senders[:real]
            )
            found = [to_features, numpy.zeros_like(harmonics), numpy.zeros_like(radial)]
            found[1][:real], found[2][:real] = to_harmonics, to_weights @ matrix.T
            return tuple(found)

        def forward(features, *others):
            result = jax.ShapeDtypeStruct((features.shape[0], paths.size_out), jnp.float32)
            return jax.pure_callback(host_forward, result, features, *others)

        def keep(*arrays):
            return forward(*arrays), arrays

        def backward(arrays, gradient):
            shapes = tuple(jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays[:3])
            return (*jax.pure_callback(host_backward, shapes, gradient, *arrays), None, None)

        self.forward = jax.custom_vjp(forward)
        self.forward.defvjp(keep, backward)


def make(settings: Mapping[str, Any], threads: int, folder: str | Path | None = None) -> NequixEngine:
    """Return the engine; ``threads`` and ``folder`` are not used, JAX takes the cores that the job has."""
    return NequixEngine(settings["model"])
