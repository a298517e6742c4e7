"""Three-phonon scattering rates of many structures of one prototype at once, in PyTorch: the mode for a GPU.

The same contractions as ``phonoscreen.transport.scattering``, with the structures as a further dimension: their
meshes, little groups, pairs of wave vectors and lists of triplets are the same, so a GPU gets work for all of them in
each step. Every triplet of modes is finished here, also those that do not conserve energy: a GPU would wait for the
others anyway.
"""

import numpy
import torch

from phonoscreen.audit.errors import StudyError
from phonoscreen.transport import units
from phonoscreen.transport.kernels import CUTOFF
from phonoscreen.transport.modes import broadening_steps
from phonoscreen.transport.scattering import ThreePhononRates, pairs_of
from phonoscreen.transport.third_order import check_third_order

REAL = {torch.complex64: torch.float32, torch.complex128: torch.float64}


def three_phonon_rates_batch(
    crystals, thirds, modes, temperatures_k, *, device="cuda", dtype=torch.complex128, scalebroad=1.0, transfer=True,
    memory_mib=2048, progress=None,
):  # fmt: skip
    """Return the three-phonon scattering rates of several structures.

    Parameters
    ----------
    crystals : list of ``phonoscreen.lattice.constants.Crystal``
    thirds : list of ``ThirdOrder`` with the same atoms and cells
    modes : list of ``MeshModes`` on equal meshes, with ``degeneracy="sets"``
    temperatures_k : (n_t,) kelvin
    device : of PyTorch, ``cuda`` or ``cpu``
    dtype : complex type of the matrix elements
    scalebroad, transfer, progress : as in ``phonoscreen.transport.scattering.three_phonon_rates``
    memory_mib : size of the blocks of matrix elements of all structures together

    Returns
    -------
    list of ``ThreePhononRates``

    Raises
    ------
    StudyError
        If the structures do not share mesh and triplets, or the device does not exist.
    """
    device = _device(device)
    _check_equal(thirds, modes)
    mesh, n_s = modes[0].mesh, len(modes)
    temperatures_k = numpy.atleast_1d(numpy.asarray(temperatures_k, float))
    (n_irr, n_b), n_q, n_t = modes[0].omega.shape, len(mesh.points), len(temperatures_k)

    def tensor(array, kind=torch.float64):
        return torch.as_tensor(numpy.ascontiguousarray(array), device=device).to(kind)

    contraction = _Contraction(crystals, thirds, mesh, dtype, device)
    omega = tensor([m.mesh_omega for m in modes])
    drift = tensor([broadening_steps(m, scalebroad) for m in modes])
    rows = tensor([m.eigenvectors for m in modes], dtype)
    occupation = tensor([units.bose(m.mesh_omega[None], temperatures_k[:, None, None]) for m in modes])
    inverse = torch.where(omega > 0, 1 / torch.where(omega > 0, omega, 1.0), 0.0)
    rotations, star = tensor(mesh.rotations[mesh.operation]), tensor(mesh.star, torch.int64)
    scale = numpy.pi / 4 / n_q * units.THREE_PHONON_RATE
    rates, space = numpy.zeros((n_s, n_t, n_irr, n_b, 2)), numpy.zeros((n_s, n_irr, n_b, 2 + 2 * n_t))
    matrix = numpy.zeros((n_s, n_t, n_irr, n_b, 3, n_irr, n_b, 3)) if transfer else None
    block = max(1, int(memory_mib * 2**20 / (200 * n_s * n_b**3)))

    for i, point in enumerate(mesh.irreducible):
        table = contraction.table(point, rows[:, point])
        first, second, counts = pairs_of(mesh, point)
        moved = torch.zeros((n_s, n_t, n_q, n_b, n_b), dtype=torch.float64, device=device)
        sums, spaces = torch.zeros((n_s, n_t, n_b, 2)), torch.zeros((n_s, n_b, 2 + 2 * n_t))
        sums, spaces = (x.to(device, torch.float64) for x in (sums, spaces))
        for start in range(0, len(first), block):
            q1, q2 = (tensor(x[start : start + block], torch.int64) for x in (first, second))
            count = tensor(counts[start : start + block])[None, :, None, None, None]
            element = contraction.elements(table, q1, rows[:, q1], rows[:, q2])
            # axes from here: structure, pair, band at q1, band at q, band at q2
            w, w1, w2 = omega[:, point, None, None, :, None], omega[:, q1, :, None, None], omega[:, q2, None, None, :]
            plus = torch.linalg.vector_norm(drift[:, q1, :, None] + drift[:, q2, None, :], dim=-1)[:, :, :, None]
            minus = torch.linalg.vector_norm(drift[:, q1, :, None] - drift[:, q2, None, :], dim=-1)[:, :, :, None]
            positive = (w > 0) & (w1 > 0) & (w2 > 0)
            absorb1, absorb2 = _gauss(w + w1 - w2, plus, positive), _gauss(w - w1 + w2, plus, positive)
            emit = _gauss(w - w1 - w2, minus, positive)
            spaces[..., 0] += (0.5 * count * (absorb1 + absorb2)).sum(dim=(1, 2, 4))
            spaces[..., 1] += (count * emit).sum(dim=(1, 2, 4))
            weight = 0.5 * count * (
                inverse[:, point, None, None, :, None] * inverse[:, q1, :, None, None] * inverse[:, q2, None, None, :]
            )  # fmt: skip
            strength = scale * (element.real.double() ** 2 + element.imag.double() ** 2)
            for t in range(n_t):
                n1, n2 = occupation[:, t, q1, :, None, None], occupation[:, t, q2, None, None, :]
                absorbed = weight * (n1 - n2) * (absorb1 - absorb2)
                emitted = weight * (1 + n1 + n2) * emit
                spaces[..., 2 + 2 * t] += absorbed.sum(dim=(1, 2, 4))
                spaces[..., 3 + 2 * t] += emitted.sum(dim=(1, 2, 4))
                absorbed, emitted = strength * absorbed, strength * emitted
                sums[:, t, :, 0] += absorbed.sum(dim=(1, 2, 4))
                sums[:, t, :, 1] += emitted.sum(dim=(1, 2, 4))
                if transfer:
                    both = absorbed + emitted
                    moved[:, t].index_add_(1, q1, -both.sum(dim=4))
                    moved[:, t].index_add_(1, q2, -both.sum(dim=2).transpose(2, 3))
        rates[:, :, i], space[:, i] = sums.cpu().numpy(), spaces.cpu().numpy()
        if transfer:
            turned = moved[..., None, None] * rotations[:, None, None]  # structure, t, q, band1, band, x, y
            folded = torch.zeros((n_s, n_t, n_irr, n_b, n_b, 3, 3), dtype=torch.float64, device=device)
            folded.index_add_(2, star, turned)
            projector = tensor(mesh.rotations[mesh.little_group(point)].mean(axis=0))
            matrix[:, :, i] = torch.einsum("xz,utjvszy->utsxjvy", projector, folded).cpu().numpy()
        if progress is not None:
            progress(i + 1, n_irr)

    size, found = 3 * n_irr * n_b, []
    for k in range(n_s):
        weighted = space[k, :, :, 2:].reshape(n_irr, n_b, n_t, 2).transpose(2, 0, 1, 3) / n_q
        found.append(
            ThreePhononRates(
                rates[k, ..., 0], rates[k, ..., 1], space[k, :, :, :2], weighted,
                matrix[k].reshape(n_t, size, size) if transfer else None,
            )
        )  # fmt: skip
    return found


class _Contraction:
    """Third-order constants of all structures on the way to the mode basis of their mesh."""

    def __init__(self, crystals, thirds, mesh, dtype, device):
        n = len(crystals[0].masses)
        checked = [check_third_order(third, n) for third in thirds]
        atoms, cells, _ = checked[0]
        masses = [numpy.asarray(crystal.masses, float)[atoms].prod(axis=1) for crystal in crystals]
        values = [v.reshape(-1, 27) / numpy.sqrt(m)[:, None] for (*_, v), m in zip(checked, masses, strict=True)]
        self._values = torch.as_tensor(numpy.array(values), device=device)
        near, step = numpy.unique(mesh.index(cells[:, 0] - cells[:, 1]), return_inverse=True)
        slots, slot = numpy.unique((step * n + atoms[:, 1]) * n + atoms[:, 2], return_inverse=True)
        index = slots // n**2, slots // n % n, slots % n
        self._slots = tuple(torch.as_tensor(x, device=device) for x in index)
        self._where = torch.as_tensor(atoms[:, 0] * len(slots) + slot, device=device)
        self._far = mesh.points[mesh.index(cells[:, 1])]
        self._mesh, self._n, self._dtype, self._device = mesh, n, dtype, device
        waves = numpy.exp(2j * numpy.pi * (mesh.fractional @ mesh.points[near].T))
        self._waves = torch.as_tensor(waves, device=device).to(dtype)

    def table(self, point, rows):
        """Contract with the eigenvectors (n_s, n_band, 3n) of one wave vector: (n_s, n_cells, 3n, n_band * 3n)."""
        n, n_s, n_slots, n_b = self._n, len(rows), len(self._slots[0]), rows.shape[1]
        phases = numpy.exp(-2j * numpy.pi * (self._far @ self._mesh.fractional[point]))
        phases = torch.as_tensor(phases, device=self._device)
        blocks = torch.zeros((n_s, n * n_slots, 27), dtype=torch.complex128, device=self._device)
        blocks.index_add_(1, self._where, self._values * phases[None, :, None])
        blocks = blocks.reshape(n_s, n, n_slots, 3, 9).transpose(2, 3).reshape(n_s, 3 * n, n_slots * 9)
        blocks = (rows @ blocks.to(self._dtype)).reshape(n_s, n_b, n_slots, 3, 3)
        shape = (self._waves.shape[1], n, n, n_s, 3, n_b, 3)
        table = torch.zeros(shape, dtype=self._dtype, device=self._device)
        table[self._slots] = blocks.permute(2, 0, 3, 1, 4)
        return table.permute(3, 0, 1, 4, 5, 2, 6).reshape(n_s, shape[0], 3 * n, n_b * 3 * n)

    def elements(self, table, q1, rows1, rows2):
        """Finish the matrix elements of pairs of wave vectors: (n_s, n_pairs, n_band1, n_band, n_band2)."""
        n_s, n_cells, n3, columns = table.shape
        carried = (self._waves[q1] @ table.reshape(n_s, n_cells, -1)).reshape(n_s, len(q1), n3, columns)
        half = (rows1 @ carried).reshape(n_s, len(q1), -1, n3)
        return (half @ rows2.transpose(2, 3)).reshape(n_s, len(q1), rows1.shape[2], columns // n3, rows2.shape[2])


def _gauss(distance, width, counted):
    counted = counted & (distance.abs() <= CUTOFF * width) & (width > 0)
    width = torch.where(width > 0, width, 1.0)
    return torch.where(counted, torch.exp(-((distance / width) ** 2)) / (width * numpy.sqrt(numpy.pi)), 0.0)


def _device(name):
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise StudyError("transport.device is cuda, but PyTorch sees no GPU here", where="transport",
                         fix="run on a node with a GPU, or set transport.device to cpu")  # fmt: skip
    return device


def _check_equal(thirds, modes):
    """Raise StudyError unless all structures share mesh and triplets."""
    for third, other in zip(thirds[1:], modes[1:], strict=True):
        same = numpy.array_equal(third.atoms, thirds[0].atoms) and numpy.array_equal(third.cells, thirds[0].cells)
        mesh, own = modes[0].mesh, other.mesh
        if not (same and numpy.array_equal(mesh.shape, own.shape) and numpy.array_equal(mesh.images, own.images)):
            raise StudyError("structures of a batch do not share their q mesh and their list of triplets",
                             where="transport", fix="solve them one by one")  # fmt: skip
