"""One figure of the experiment, from tables only."""

import pandas

from phonoscreen.analysis.comparison import reference_name
from phonoscreen.audit.job import run_job
from phonoscreen.audit.outdated import footnote
from phonoscreen.experiment.figures import DRAWINGS
from phonoscreen.figures.style import save


def main(job):
    names = ("forces", "bins", "calibration", "phonons", "properties", "promises", "selection")
    tables = {name: pandas.read_parquet(getattr(job.input, name)) for name in names}
    draw = DRAWINGS[job.wildcards.drawing]
    figure, caption = draw(tables, reference_name(job.params.engine, job.params.model))
    paths = [getattr(job.input, name) for name in names]
    save(figure, caption, job.output, footnote(job.input.outdated, paths))


run_job(snakemake, main)
