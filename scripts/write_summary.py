"""The summary of the study as Markdown and HTML, and its numbers beside the published ones as a table."""

from pathlib import Path

import pandas

from phonoscreen.analysis.beginning import beginning
from phonoscreen.analysis.comparison import cohp_name, reference_name
from phonoscreen.analysis.dft_comparison import read_comparison
from phonoscreen.analysis.headline import headline, headline_table
from phonoscreen.analysis.ledger import read_contradictions, read_numbers
from phonoscreen.analysis.summary import CHECKS, TABLES, summarise
from phonoscreen.analysis.tables import write_tables
from phonoscreen.audit.job import run_job
from phonoscreen.audit.outdated import footnote


def main(job):
    reference = reference_name(job.params.engine, job.params.model)
    tables = {name: pandas.read_parquet(getattr(job.input, name)) for name in TABLES}
    settings = {name: getattr(job.params, name) for name in ("displacement_angstrom", "threshold_mev_per_angstrom")}
    found = headline(tables, {**settings, "reference": reference})
    tables["headline"] = headline_table(read_numbers(job.input.numbers), found)
    checks = {name: pandas.read_parquet(path) if (path := job.input.get(f"check_{name}")) else None for name in CHECKS}
    captions = [Path(path).read_text().strip() for path in job.input.captions]
    page = summarise(
        tables, checks, read_contradictions(job.input.contradictions),
        list(zip(job.input.figures, captions, strict=True)),
        reference=reference,
        bonding_engine=cohp_name(job.params.bonding_engine),
        dft=read_comparison(job.input.dft), screened=(job.input.screened, job.input.confirmed),
        outdated=footnote(job.input.outdated, [getattr(job.input, name) for name in TABLES]),
        beginning=beginning(job.input.pretrained, job.input.compounds, tables["phonons"], reference),
    )  # fmt: skip
    write_tables(job.output, headline=tables["headline"])
    Path(job.output.markdown).write_text(page.markdown(Path(job.output.markdown).parent))
    Path(job.output.html).write_text(page.html())


run_job(snakemake, main)
