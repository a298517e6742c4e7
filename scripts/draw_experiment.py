"""One figure of the experiment, from tables only."""

import pandas

from phonoscreen.analysis.comparison import reference_name
from phonoscreen.audit.job import run_job
from phonoscreen.experiment.figures import DRAWINGS
from phonoscreen.figures.style import save


def main(job):
    names = ("forces", "bins", "calibration", "phonons", "properties", "promises", "selection")
    tables = {name: pandas.read_parquet(getattr(job.input, name)) for name in names}
    draw = DRAWINGS[job.wildcards.drawing]
    figure, caption = draw(tables, reference_name(job.params.engine, job.params.model))
    save(figure, caption, job.output)


run_job(snakemake, main)
