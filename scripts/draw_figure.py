"""One figure: its module in ``phonoscreen.figures`` names the tables it draws as the arguments of ``draw``."""

import importlib
import inspect

import pandas

from phonoscreen.analysis.comparison import cohp_name, reference_name
from phonoscreen.audit.job import run_job
from phonoscreen.audit.outdated import footnote
from phonoscreen.figures.style import save


def main(job):
    draw = importlib.import_module(f"phonoscreen.figures.{job.params.figure}").draw
    words = {
        "reference": reference_name(job.params.engine, job.params.model),
        "cohp_engine": cohp_name(job.params.bonding_engine),
        "temperature_k": job.params.temperature_k,
    }
    arguments = inspect.signature(draw).parameters
    paths = {name: str(path) for name, path in job.input.items() if name != "outdated"}
    tables = {name: pandas.read_parquet(path) for name, path in paths.items()}
    figure, caption = draw(**tables, **{name: word for name, word in words.items() if name in arguments})
    save(figure, caption, job.output, footnote(job.input.outdated, list(paths.values())))


run_job(snakemake, main)
