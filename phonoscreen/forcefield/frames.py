"""Nearest-neighbour frames: the rotations that turn an environment into a standard orientation.

The first axis points to one of the nearest neighbours, the second lies in the plane of that neighbour and the next
nearest one that is not collinear with it (Gram-Schmidt), the third completes a right-handed set. Neighbours at equal
distance are exchangeable: where the choice is tied, every tied choice is taken and its weight divided among them, so
that the set of frames rotates with the environment, also in a perfect crystal.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numba
import numpy
from numpy.typing import NDArray

from phonoscreen.audit.errors import StudyError

if TYPE_CHECKING:
    from phonoscreen.forcefield.neighbourhoods import Neighbourhoods

TIE_ANGSTROM = 1e-4  # distances closer than this are equal
SINE_MIN = 0.3  # two directions with a smaller sine between them count as collinear


@dataclass
class Frames:
    """Frames of a list of centres.

    Parameters
    ----------
    centres : (n_frames,) index of the centre
    rotations : (n_frames, 3, 3) proper; ``rotation @ vector`` are the coordinates in the frame
    weights : (n_frames,) sum to 1 for each centre
    pairs : (n_frames, 2) the two neighbours that define the frame, counted from the first pair of the centre
    """

    centres: numpy.ndarray
    rotations: numpy.ndarray
    weights: numpy.ndarray
    pairs: numpy.ndarray


def neighbour_frames(neighbourhoods: "Neighbourhoods", cutoff_angstrom: float, n_frames: int) -> Frames:
    """Return the frames of the ``n_frames`` nearest neighbours of every centre.

    Raises
    ------
    StudyError
        If a centre has no two neighbours inside the cutoff that span a plane.
    """
    if n_frames < 1:
        raise StudyError(
            f"{n_frames} frames", where="neighbour_frames", fix="set force_model.elemental_sdnnff.frames to at least 1"
        )
    lonely, centres, weights, pairs = _choose_frames(
        neighbourhoods.offsets.astype(numpy.int64), numpy.ascontiguousarray(neighbourhoods.vectors, dtype=float),
        float(cutoff_angstrom), n_frames, TIE_ANGSTROM, SINE_MIN,
    )  # fmt: skip
    if lonely >= 0:
        raise StudyError(
            f"centre {lonely} has no two neighbours within {cutoff_angstrom} A that span a plane, so no frame",
            where="neighbour_frames",
            fix="raise force_model.elemental_sdnnff.cutoff_angstrom; single atoms and dimers are outside the model",
        )
    return frames_along(neighbourhoods, centres, pairs, weights)


def frames_along(
    neighbourhoods: "Neighbourhoods", centres: NDArray, pairs: NDArray, weights: NDArray | None = None
) -> Frames:
    """Return the frames that given neighbours define.

    Parameters
    ----------
    centres : (n_frames,) index of the centre
    pairs : (n_frames, 2) neighbours along the first axis and in the plane of the first two
    weights : (n_frames,), or None where they are not needed: then they are NaN
    """
    first, second = (neighbourhoods.vectors[neighbourhoods.offsets[centres] + pairs[:, axis]] for axis in (0, 1))
    first = first / numpy.linalg.norm(first, axis=1, keepdims=True)
    second = second - first * (first * second).sum(axis=1, keepdims=True)
    second = second / numpy.linalg.norm(second, axis=1, keepdims=True)
    rotations = numpy.stack([first, second, numpy.cross(first, second)], axis=1)
    if weights is None:
        weights = numpy.full(len(centres), numpy.nan)
    return Frames(centres, rotations, weights, pairs)


@numba.njit(cache=True)
def _choose_frames(offsets, vectors, cutoff, n_frames, tie, sine_min):
    n_centres = len(offsets) - 1
    size = n_centres * n_frames + 1024
    centres = numpy.empty(size, numpy.int64)
    pairs = numpy.empty((size, 2), numpy.int64)
    weights = numpy.empty(size)
    used = 0
    for centre in range(n_centres):
        around = vectors[offsets[centre] : offsets[centre + 1]]
        distance = numpy.sqrt((around**2).sum(axis=1))
        order = numpy.argsort(distance, kind="mergesort")
        count = 0
        while count < len(order) and distance[order[count]] < cutoff:
            count += 1
        start, total, begin = used, 0.0, 0
        while begin < min(n_frames, count):  # shells of first neighbours
            end = _shell_end(distance, order, begin, count, tie)
            share = (min(end, n_frames) - begin) / (end - begin)
            for rank in range(begin, end):
                first = around[order[rank]] / distance[order[rank]]
                # the nearest shell that holds a neighbour not collinear with the first
                low, found = 0, 0
                while low < count and found == 0:
                    high = _shell_end(distance, order, low, count, tie)
                    for other in range(low, high):
                        found += _spans(first, around[order[other]], distance[order[other]], sine_min)
                    if found == 0:
                        low = high
                if found == 0:
                    continue
                for other in range(low, high):
                    if not _spans(first, around[order[other]], distance[order[other]], sine_min):
                        continue
                    if used == size:
                        size *= 2
                        centres = _grown(centres, numpy.empty(size, numpy.int64))
                        pairs = _grown(pairs, numpy.empty((size, 2), numpy.int64))
                        weights = _grown(weights, numpy.empty(size))
                    centres[used] = centre
                    pairs[used, 0], pairs[used, 1] = order[rank], order[other]
                    weights[used] = share / found
                    total += share / found
                    used += 1
            begin = end
        if total == 0.0:
            return centre, centres[:0], weights[:0], pairs[:0]
        weights[start:used] /= total
    return -1, centres[:used].copy(), weights[:used].copy(), pairs[:used].copy()


@numba.njit(cache=True)
def _shell_end(distance, order, begin, count, tie):
    end = begin + 1
    while end < count and distance[order[end]] - distance[order[begin]] < tie:
        end += 1
    return end


@numba.njit(cache=True)
def _spans(first, vector, length, sine_min):
    cosine = (first[0] * vector[0] + first[1] * vector[1] + first[2] * vector[2]) / length
    return 1.0 - cosine * cosine >= sine_min * sine_min


@numba.njit(cache=True)
def _grown(array, larger):
    larger[: len(array)] = array
    return larger
