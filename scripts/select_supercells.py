"""Choose the supercells that get a reference calculation, and judge whether active learning has converged."""

import json
from pathlib import Path

import pandas

from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_manifest, read_records, write_table
from phonoscreen.forcefield.models.model_json import write_json
from phonoscreen.forcefield.selection import judge_convergence, select, worst_supercells


def main(job):
    manifest = read_manifest(job.input.manifest).set_index("structure_id")
    before = [json.loads(Path(path).read_text()) for path in job.input.get("convergence", [])]
    selections = [pandas.read_parquet(path) for path in job.input.get("selections", [])]
    taken = {pair for table in selections for pair in zip(table.structure_id, table.supercell_index)}
    uncertain = read_records(job.input.uncertainty)
    uncertain = uncertain[uncertain.status == "ok"]
    uncertain = uncertain.assign(shard=uncertain.structure_id.map(manifest.shard))
    worst = worst_supercells(uncertain, taken)
    candidates = worst[worst.epsilon_max_mev_per_angstrom > job.params.threshold_mev_per_angstrom]
    candidates = candidates.reset_index(drop=True)
    converged, reason = judge_convergence(len(candidates), before, job.params.converged_change)
    labelled = [*manifest.index[manifest.part == "training"], *(name for name, _ in taken)]
    chosen = candidates.iloc[:0] if converged else select(
        candidates, job.params.strategy, job.params.select_max, seed=job.params.seed, formulas=manifest.formula,
        labelled=labelled,
    )  # fmt: skip
    write_table(chosen, job.output.selection)
    verdict = {"recommended": len(candidates), "selected": len(chosen), "converged": converged, "reason": reason}
    write_json(verdict, job.output.convergence)


run_job(snakemake, main)
