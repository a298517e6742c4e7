"""``phonoscreen predict``: forces of a published model on structures of the user."""

import argparse


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the ``predict`` command."""
    parser = subparsers.add_parser("predict", help="forces of a published model on structures of any file ASE reads")
    parser.add_argument("structures", nargs="+", help="files with one or several structures (extxyz, CIF, POSCAR, ...)")
    parser.add_argument("--model", help="folder of a published model (the one that comes with the repository)")
    parser.add_argument(
        "--output", default="forces.extxyz", help="extended XYZ to write; records go to OUTPUT.records.csv"
    )
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--dtype", default=None, choices=["float32", "float64"], help="precision (default: as trained)")
    parser.set_defaults(run=predict)


def predict(arguments: argparse.Namespace) -> int:
    """Write structures with forces and uncertainties; failures are recorded, not fatal."""
    import logging

    from phonoscreen.forcefield.predict import predict_files
    from phonoscreen.forcefield.publish import default_model_path

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    model = default_model_path() if arguments.model is None else arguments.model
    good, failed = predict_files(
        arguments.structures, model, arguments.output, device=arguments.device, dtype=arguments.dtype
    )
    print(f"{arguments.output}: {good} structures with forces, {failed} without (see {arguments.output}.records.csv)")
    return 1 if failed else 0
