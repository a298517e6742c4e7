"""Training data from the kept labels of a universal potential (``phonoscreen.stages.label_product``)."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy
import pandas

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.errors import StudyError
from phonoscreen.audit.provenance import file_sha256
from phonoscreen.crystal.constants import Crystal
from phonoscreen.crystal.masses import standard_masses
from phonoscreen.forcefield.dataset import is_held_out, store_labelled
from phonoscreen.forcefield.models.base import check_forces
from phonoscreen.forcefield.supercells import Supercells
from phonoscreen.stages.label_product import read_product

STAGE = "label_dataset"


def write_label_dataset(
    product: Path,
    path: Path,
    *,
    more: Sequence[Path] = (),
    held_out_fraction: float,
    seed: int,
    compounds_max: int | None = None,
    only_test: bool = False,
) -> pandas.DataFrame:
    """Write labelled compounds as a data set that ``phonoscreen.forcefield.dataset.Dataset`` reads.

    Compounds with the role ``test`` get the split ``test``: nothing is trained on them and nothing decided by them. Of
    the others a fraction is held out to judge epochs. Beside its displaced supercells a compound has its strained
    primitive cells and, without strain, the relaxed one, whose forces and stress are zero: relaxation made them so.

    Parameters
    ----------
    product : file of ``label_product``
    more : further files of the same engine; a compound that a file before has, labelled or not, is left
        out, and so are their test compounds
    path : HDF5 file to write, complete when it appears
    held_out_fraction, seed : see ``phonoscreen.forcefield.dataset.is_held_out``
    compounds_max : at most so many compounds to train on, the first ones of the file (None: all); none of the test
        compounds is left out
    only_test : write the test compounds alone

    Returns
    -------
    pandas.DataFrame with ``structure_id, formula, prototype, split, n_supercells, n_environments``, one row per
    compound with labels

    Raises
    ------
    StudyError
        If the file holds no compound to train on, or to judge on, or another engine made a further one.
    """
    origin, labelled = _read_products([product, *more])
    rows: list[dict] = []
    wanted = "test" if only_test else "training"
    with written_whole(path) as partial, h5py.File(partial, "w") as store:
        store.attrs["engine"] = str(origin["engine"])
        store.attrs["model"] = str(origin["weights_sha256"])
        store.attrs["labels_sha256"] = file_sha256(product)
        for record, arrays in labelled:
            training = sum(row["split"] != "test" for row in rows)
            enough = only_test or (compounds_max and training >= compounds_max)
            if not arrays or (record["role"] != "test" and enough):
                continue
            split = _split(record, held_out_fraction, seed)
            _write_compound(store.create_group(record["structure_id"]), arrays, split)
            count, n_atoms = arrays["forces"].shape[:2]
            row = {name: record[name] for name in ("structure_id", "formula", "prototype")}
            rows.append(row | {"split": split, "n_supercells": count, "n_environments": count * n_atoms})
        if not any(row["split"] == wanted for row in rows):
            raise StudyError(f"no compound of the split {wanted}", where=f"{product}, stage {STAGE}",
                             fix="give a file of more labels")  # fmt: skip
    return pandas.DataFrame(rows)


def _read_products(paths):
    """Return the origin of the first file and the compounds of all, each once."""
    first, compounds = read_product(paths[0])
    labelled = {record["structure_id"]: (record, arrays) for record, arrays in compounds}
    for path in paths[1:]:
        origin, compounds = read_product(path)
        if any(origin[name] != first[name] for name in ("engine", "weights_sha256")):
            raise StudyError(f"labels of {origin['engine']}, those before of {first['engine']}, or of other weights",
                             where=str(path), fix="train on labels of one engine")  # fmt: skip
        for record, arrays in compounds:
            if record["role"] != "test":
                labelled.setdefault(record["structure_id"], (record, arrays))
    return first, list(labelled.values())


def _split(record, held_out_fraction, seed):
    if record["role"] == "test":
        return "test"
    return "held_out" if is_held_out(record["structure_id"], held_out_fraction, seed) else "training"


def _write_compound(group, arrays, split):
    """Write one compound in the layout of ``assemble_dataset``, with stresses."""
    forces = check_forces(arrays["forces"], arrays["displacements"].shape[1])
    numbers = arrays["numbers"]
    crystal = Crystal(arrays["cell"], arrays["scaled_positions"], numbers, standard_masses(numbers))
    data = Supercells(crystal, arrays["repetitions"], arrays["displacements"])
    store_labelled(group, data, slice(None), forces, split, 1.0)
    group["stresses"], strained = arrays["stresses"], group.create_group("strained")
    at_rest = numpy.zeros((1, 3, 3))
    strained["strains"] = numpy.concatenate([at_rest, arrays["strained/strains"]])
    strained["stresses"] = numpy.concatenate([at_rest, arrays["strained/stresses"]])
    strained["forces"] = numpy.concatenate([numpy.zeros((1, len(arrays["numbers"]), 3)), arrays["strained/forces"]])
