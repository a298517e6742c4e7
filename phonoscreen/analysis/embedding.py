"""Map of all structures by t-SNE of one structure vector each (S5)."""

import h5py
import numpy
import pandas

from phonoscreen.analysis.tables import paths_of, with_identity
from phonoscreen.audit.seeds import derive_seed
from phonoscreen.forcefield.embedding import structure_vector
from phonoscreen.lattice.constants import Crystal
from phonoscreen.structures.store import read_atoms

PERPLEXITY = 30
PRINCIPAL_COMPONENTS = 50
COORDINATES = ["tsne_1", "tsne_2"]


def embed(vectors, seed):
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
    reduced = PCA(components, svd_solver="full", random_state=seed).fit_transform(vectors)
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced).astype(float)


def embedding_table(manifest, structures, force_model, seed):
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
    ids, vectors = [], []
    for path in paths_of(structures):
        with h5py.File(path) as store:
            for structure_id, group in store.items():
                ids.append(structure_id)
                vectors.append(structure_vector(Crystal.from_ase(read_atoms(group)), force_model))
    order = numpy.argsort(ids)
    places = embed(numpy.array(vectors)[order], derive_seed(seed, "tsne")) if ids else numpy.empty((0, 2))
    table = pandas.DataFrame(places, columns=COORDINATES).assign(structure_id=numpy.array(ids, dtype=object)[order])
    return with_identity(manifest, table)
