"""Map of all structures by t-SNE of one structure vector each (S5)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import h5py
import numpy
import pandas
from numpy.typing import ArrayLike, NDArray

from phonoscreen.analysis.tables import paths_of, with_identity
from phonoscreen.audit.seeds import derive_seed
from phonoscreen.crystal.constants import Crystal
from phonoscreen.forcefield.density import DensityMesh
from phonoscreen.forcefield.frames import neighbour_frames
from phonoscreen.forcefield.neighbourhoods import point_neighbourhood
from phonoscreen.structures.store import read_atoms

if TYPE_CHECKING:
    from phonoscreen.analysis.tables import Paths

CENTRE = (0.5, 0.5, 0.5)
COINCIDE_ANGSTROM = 1e-3  # an atom this close to the centre defines no direction
PERPLEXITY = 30
PRINCIPAL_COMPONENTS = 50
COORDINATES = ["tsne_1", "tsne_2"]


def structure_vector(crystal: Crystal, mesh: DensityMesh, n_frames: int) -> NDArray:
    """Return the elemental spatial density at the centre of a cell, averaged over its nearest-neighbour frames.

    Parameters
    ----------
    crystal : ``phonoscreen.crystal.constants.Crystal``
    mesh : ``DensityMesh``
    n_frames : number of nearest neighbours that define frames

    Returns
    -------
    (mesh.n_values,) the same for every orientation of the crystal
    """
    around = point_neighbourhood(crystal, CENTRE, mesh.cutoff_angstrom)
    apart = numpy.linalg.norm(around.vectors, axis=1) > COINCIDE_ANGSTROM
    directed = replace(
        around,
        offsets=numpy.array([0, apart.sum()]),
        neighbours=around.neighbours[apart],
        neighbour_numbers=around.neighbour_numbers[apart],
        vectors=around.vectors[apart],
    )
    frames = neighbour_frames(directed, mesh.cutoff_angstrom, n_frames)
    return frames.weights @ mesh.density(around, frames)


def embed(vectors: ArrayLike, seed: int) -> NDArray:
    """Return t-SNE coordinates of vectors.

    van der Maaten and Hinton, J. Mach. Learn. Res. 9, 2579 (2008); started from the principal components, so that the
    map is the same in every run. The perplexity is 30, less for fewer than 91 vectors.

    Parameters
    ----------
    vectors : (n, n_values)
    seed : integer

    Returns
    -------
    (n, 2) dimensionless; (n, 2) of NaN for fewer than four vectors, which no map can show
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    vectors = numpy.asarray(vectors, dtype=float)
    if len(vectors) < 4:
        return numpy.full((len(vectors), 2), numpy.nan)
    seed = seed % 2**32
    components = min(PRINCIPAL_COMPONENTS, *vectors.shape)
    solver = "full" if len(vectors) < vectors.shape[1] else "covariance_eigh"
    reduced = PCA(components, svd_solver=solver).fit_transform(vectors)
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced).astype(float)


def embedding_table(
    manifest: pandas.DataFrame, structures: "Paths", force_model: Mapping[str, Any], seed: int
) -> pandas.DataFrame:
    """Return the place of every relaxed structure on the map.

    Parameters
    ----------
    manifest : DataFrame
    structures : HDF5 paths of ``relax_structures``
    force_model : settings ``cutoff_angstrom, mesh_spacing_angstrom, width_over_spacing, frames``
    seed : the study's seed

    Returns
    -------
    DataFrame: identity, ``tsne_1, tsne_2``
    """
    mesh = DensityMesh(
        force_model["cutoff_angstrom"], force_model["mesh_spacing_angstrom"], force_model["width_over_spacing"]
    )
    ids, vectors = [], []
    for path in paths_of(structures):
        with h5py.File(path) as store:
            for structure_id, group in store.items():
                ids.append(structure_id)
                crystal = Crystal.from_ase(read_atoms(group))
                vectors.append(structure_vector(crystal, mesh, force_model["frames"]))
    order = numpy.argsort(ids)
    places = embed(numpy.array(vectors)[order], derive_seed(seed, "tsne")) if ids else numpy.empty((0, 2))
    table = pandas.DataFrame(places, columns=COORDINATES).assign(structure_id=numpy.array(ids, dtype=object)[order])
    return with_identity(manifest, table)
