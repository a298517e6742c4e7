"""Active learning replayed on compounds that are all labelled: a strategy against chance at equal budget."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import pandas

from phonoscreen.audit.seeds import derive_seed
from phonoscreen.experiment.forces import point_errors
from phonoscreen.experiment.subsets import first_compounds, training_for_size
from phonoscreen.forcefield.committee import Committee, uncertainty
from phonoscreen.forcefield.dataset import assemble_dataset
from phonoscreen.forcefield.pooled import pooled
from phonoscreen.forcefield.selection import select, worst_supercells
from phonoscreen.forcefield.supercells import Supercells
from phonoscreen.forcefield.training import train_member


class Oracle:
    """Labelled compounds to choose from and compounds never seen to measure on.

    Parameters
    ----------
    supercells, labels : dicts from structure id to HDF5 file
    manifest : DataFrame with ``structure_id, formula, prototype, shard``
    choice, unseen : ids of the compounds that may be chosen, and of those never seen
    """

    def __init__(
        self,
        supercells: Mapping[str, str | Path],
        labels: Mapping[str, str | Path],
        manifest: pandas.DataFrame,
        choice: Iterable[str],
        unseen: Iterable[str],
    ):
        self.supercells, self.labels = supercells, labels
        self.manifest = manifest.set_index("structure_id")
        self.choice, self.unseen = sorted(choice), sorted(unseen)

    def classes(self) -> dict[str, str]:
        """Return the class of each compound that may be chosen."""
        return {structure_id: self.manifest.prototype[structure_id] for structure_id in self.choice}

    def train(
        self, chosen: Sequence[str], settings: dict[str, Any], training: dict[str, Any], members: int, seed: int
    ) -> Committee:
        """Return a committee trained on the first labelled supercell of each chosen compound."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "dataset.h5"
            assemble_dataset(
                {structure_id: self.labels[structure_id] for structure_id in chosen}, self.supercells, [], path,
                held_out_fraction=training["held_out_fraction"], seed=seed, supercells_max=1,
            )  # fmt: skip
            trained = [
                train_member(path, settings, training, seed=seed, member=member, round_number=0, device="cpu")[0]
                for member in range(members)
            ]
        return Committee(trained)

    def query(self, committee: Committee, chosen: Iterable[str]) -> pandas.DataFrame:
        """Return the uncertainty of every compound not chosen yet, as ``worst_supercells`` reads it."""
        rows = []
        for structure_id in sorted(set(self.choice) - set(chosen)):
            with h5py.File(self.supercells[structure_id]) as store:
                data = Supercells.read(store[structure_id])
            data.displacements = data.displacements[:1]
            epsilon = 1e3 * uncertainty(committee.supercell_forces(data)).max(axis=1)
            rows.append((structure_id, self.manifest.shard[structure_id], epsilon.tolist()))
        return pandas.DataFrame(rows, columns=["structure_id", "shard", "epsilon_mev_per_angstrom"])

    def errors(self, committee: Committee) -> dict[str, float]:
        """Return the pooled errors on the compounds never seen, and the median over them of RMSE / RMS."""
        atoms = point_errors(committee, self.supercells, self.labels, (), self.unseen, 0)
        values = {str(name): value for name, value in pooled(atoms, ["set"]).iloc[0].items() if name != "set"}
        relative = pooled(atoms.assign(one=atoms["structure_id"]), ["one"])["force_rmse_relative"]
        return {**values, "force_rmse_relative_median": float(relative.median())}


def replay(
    oracle: Oracle,
    strategy: str,
    settings: dict[str, Any],
    training: dict[str, Any],
    *,
    members: int,
    start: int,
    per_round: int,
    rounds: int,
    seed: int,
) -> pandas.DataFrame:
    """Choose compounds round by round and measure after each.

    Every strategy of one seed starts from the same compounds and, in each round, trains new members from scratch with
    the same seeds, so that only the choice differs.

    Parameters
    ----------
    oracle : ``Oracle``
    strategy : of ``phonoscreen.forcefield.selection``
    settings, training : the config sections ``force_model`` and ``training``
    members : of the committee
    start, per_round, rounds : compounds at the start, compounds added per round, rounds
    seed : of the start, the weights and the random strategy

    Returns
    -------
    DataFrame, one row per round: ``round, n_compounds`` and the errors on compounds never seen
    """
    chosen, rows = first_compounds(oracle.classes(), start, seed), []
    formulas = {str(name): str(formula) for name, formula in oracle.manifest.formula.items()}
    for number in range(rounds + 1):
        for_size = training_for_size(training, len(chosen), start + rounds * per_round)
        committee = oracle.train(chosen, settings, for_size, members, seed)
        rows.append({"round": number, "n_compounds": len(chosen), **oracle.errors(committee)})
        if number < rounds:
            candidates = worst_supercells(oracle.query(committee, chosen), set())
            taken = select(
                candidates, strategy, per_round, seed=derive_seed(seed, "replay", number),
                formulas=formulas, labelled=chosen,
            )  # fmt: skip
            chosen = [*chosen, *taken.structure_id]
    return pandas.DataFrame(rows)
