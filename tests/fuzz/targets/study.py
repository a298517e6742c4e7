"""The study's own products, records and provenance."""

import contextlib
from pathlib import Path
from types import SimpleNamespace

import numpy

from tests.conftest import Named
from tests.fuzz.mutations import mutate_bytes
from tests.fuzz.targets.registry import TARGETS, target


def study_files(folder):
    """Two jobs in a row: source.txt -> results/a.h5 -> results/b.parquet."""
    import h5py

    from phonoscreen.audit.job import Job
    from phonoscreen.audit.provenance import write_provenance

    def run(rule, source, product, compute):
        params, wildcards = Named(code="abc", temperature_k=300), Named(shard="0000")
        names = {"rule": rule, "params": params, "wildcards": wildcards, "threads": 1, "resources": Named()}
        job = Job(SimpleNamespace(input=[source], output=[product], **names))
        compute(product)
        write_provenance(job, [product], started=0.0)

    def arrays(path):
        with h5py.File(path, "w") as store:
            store["nacl/forces"] = numpy.linspace(-1, 1, 48).reshape(16, 3)

    with contextlib.chdir(folder):
        Path("results").mkdir()
        Path("source.txt").write_text("300 K")
        run("first", "source.txt", "results/a.h5", arrays)
        run("second", "results/a.h5", "results/b.parquet", write_some_records)


STUDY_MUTATIONS = {"source.txt": None, "results/a.h5": mutate_bytes, "results/b.parquet": mutate_bytes}


@target(study_files, mutations=STUDY_MUTATIONS)
def provenance(folder):
    from phonoscreen.audit.lineage import Lineage, describe, details
    from phonoscreen.audit.verify import verify_study

    verify_study(folder)
    lineage = Lineage(folder)
    node = lineage.trace("results/b.parquet")
    describe(node)
    if node.document:
        details(node.document)


@target(study_files, mutations=STUDY_MUTATIONS)
def job_inputs(folder):
    """What a job takes as its input is what the job before wrote."""
    from phonoscreen.audit.integrity import check_inputs

    products = ["results/a.h5", "results/b.parquet"]
    with contextlib.chdir(folder):
        check_inputs(products, where="a job")
        sound = TARGETS["job_inputs"].seeds()
        assert all(Path(path).read_bytes() == sound[path] for path in products)


def write_some_records(path):
    from phonoscreen.audit.records import write_records

    done = {"stage": "solve_bte", "status": "ok", "reason": "", "kappa_p_w_per_m_k": 3.0, "iterations": 12}
    write_records([{"structure_id": name, **done} for name in ("a", "b")], path)


@target(lambda folder: write_some_records(folder / "records.parquet"), mutate=mutate_bytes)
def records(folder):
    from phonoscreen.audit.records import read_records

    return len(read_records(folder / "records.parquet"))
