"""Force errors of universal potentials on the labelled supercells of the validation structures."""

import h5py
import pandas

from phonoscreen.audit.atomic import written_whole
from phonoscreen.audit.job import run_job
from phonoscreen.audit.records import read_manifest, write_table
from phonoscreen.reference.baselines import COLUMNS, evaluate_structure
from phonoscreen.reference.potentials import make_baseline


def main(job):
    parts = read_manifest(job.input.manifest).set_index("structure_id")["part"]
    rows = []
    with written_whole(job.output.components) as partial, h5py.File(partial, "w") as components:
        for model in job.params.baselines:
            engine = make_baseline(model, job.threads)
            for supercells_path, labels_path in zip(job.input.supercells, job.input.labels, strict=True):
                with h5py.File(supercells_path) as supercells, h5py.File(labels_path) as labels:
                    for structure_id in sorted(labels):
                        if parts[structure_id] == "validation":
                            row, forces = evaluate_structure(
                                engine, structure_id, supercells[structure_id], labels[structure_id]
                            )
                            rows.append({**row, "model": model, "part": parts[structure_id]})
                            if forces is not None:
                                components[f"{structure_id}/{model}"] = forces
                                components.require_group(structure_id).attrs["reference"] = row["reference"]
                                if "reference" not in components[structure_id]:
                                    components[f"{structure_id}/reference"] = labels[f"{structure_id}/forces"][()]
    write_table(pandas.DataFrame(rows, columns=COLUMNS), job.output.table)


run_job(snakemake, main)
