"""Changes of the force models on any data set, from the command line.

The target ``ablation`` makes the table of the settings; for any data set and any change:
``python -m phonoscreen.experiment.ablate DATASET [--model equivariant] [CHANGE...]``, for example
``results/rounds/0/dataset.h5 --model elemental_sdnnff frames=1 "components_per_parity=16 frames=6"``.
"""

import argparse
from pathlib import Path

import pandas
import yaml

from phonoscreen.experiment.ablation import measure
from phonoscreen.workflow.experiment import ablations, check_experiment


def main() -> None:
    """Print the table of the changes in the settings, or of those given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dataset", help="dataset.h5 of a round or of the experiment")
    parser.add_argument("--settings", default="config.yaml", help="YAML file with the settings of the study")
    parser.add_argument("--model", help="only this model of experiment/models")
    parser.add_argument("changes", nargs="*", help="settings as key=value, several in one argument change together")
    arguments = parser.parse_args()
    config = check_experiment(yaml.safe_load(Path(arguments.settings).read_text()))
    names = [arguments.model] if arguments.model else list(config["ablation"])
    if arguments.changes:
        changes = [{k: yaml.safe_load(v) for k, v in (p.split("=", 1) for p in c.split())} for c in arguments.changes]
        config["ablation"] = dict.fromkeys(names, [{}, *changes])
    rows = [measure(arguments.dataset, config["seed"], **t) for t in ablations(config) if t["model"] in names]
    print(pandas.concat(rows).to_string(index=False, float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
