"""Command ``phonoscreen train``: a force model from kept labels, judged on compounds it never saw, and published."""

import argparse
from pathlib import Path

from phonoscreen.commands.fit_options import count, positive


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the main command line."""
    parser = subparsers.add_parser(
        "train", help="force model from kept labels, judged on compounds never seen, and published", description=__doc__
    )
    parser.add_argument("labels", type=Path, help="kept labels, for example resources/labels/teacher_labels.h5")
    parser.add_argument("folder", type=Path, help="folder of the training; an interrupted one goes on where it stopped")
    parser.add_argument("--members", type=count, default=5, help="members of the committee (5)")
    parser.add_argument("--processes", type=count, metavar="N", help="members that are trained at a time (1)")
    parser.add_argument(
        "--memory-gib", type=positive, metavar="M",
        help="for supercells that are prepared once for all members (2); others are prepared again in every epoch",
    )  # fmt: skip
    parser.add_argument(
        "--settings", type=Path, metavar="FILE",
        help="YAML file with the sections force_model and training (resources/model_training.yaml)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, help="of the split, the weights and the order of the data (1)")
    parser.add_argument(
        "--compounds", type=count, metavar="N", help="train on the first N compounds of the labels (all)"
    )
    parser.add_argument(
        "--more-labels", type=Path, nargs="+", default=[], metavar="FILE",
        help="further kept labels to train on, such as those of queried compounds; the test compounds of LABELS judge",
    )  # fmt: skip
    parser.add_argument(
        "--start", type=Path, metavar="FOLDER", help="of a training or a published model whose members these begin with"
    )
    parser.add_argument(
        "--test-labels", type=Path, metavar="FILE", help="labels whose test compounds judge (those that were given)"
    )
    parser.add_argument(
        "--publish", type=Path, metavar="FOLDER",
        help="where the model goes (model in the folder of the training); a model that is there is replaced",
    )  # fmt: skip
    parser.add_argument(
        "--interim", action="store_true",
        help="train nothing: judge and publish the members as they are, an unfinished one with its best weights so far",
    )  # fmt: skip
    parser.add_argument(
        "--together", action="store_true",
        help="train all members at once, with forces relative to the undisplaced crystal: made for a GPU",
    )  # fmt: skip
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="of --together (auto)")
    parser.add_argument(
        "--force-sets", type=Path, metavar="FOLDER",
        help="forces of DFT to train on too, with --roles, relative to the undisplaced crystal",
    )  # fmt: skip
    parser.add_argument(
        "--roles", type=Path, metavar="FILE", help="CSV file (file, role): the force sets whose role is train"
    )
    parser.add_argument(
        "--force-sets-weight", type=positive, default=1.0, metavar="W",
        help="of a supercell of the force sets in the loss, where a labelled one has 1 (1)",
    )  # fmt: skip
    parser.set_defaults(run=train)


def train(arguments: argparse.Namespace) -> int:
    """Train what is not trained yet, then judge and publish."""
    import logging

    import torch

    from phonoscreen.stages import joint_training, published_model, republishing
    from phonoscreen.workflow.code import code_of
    from phonoscreen.workflow.inputs import model_settings, training_settings

    _check_together(arguments)
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    target = arguments.publish or arguments.folder / "model"
    published_model.check_target(target)
    if not arguments.interim:
        sections = _settings(arguments.settings)
        published_model.prepare_training(
            arguments.labels, arguments.folder, force_model=model_settings(sections["force_model"]),
            training=training_settings(sections["training"]), seed=arguments.seed, compounds_max=arguments.compounds,
            more_labels=arguments.more_labels, start=arguments.start, force_sets=_force_sets(arguments),
            force_sets_weight=arguments.force_sets_weight, together=arguments.together,
        )  # fmt: skip
        if arguments.together:
            joint_training.train_members_together(arguments.folder, arguments.members, arguments.device)
        else:
            published_model.train_members(
                arguments.folder,
                arguments.members,
                arguments.start,
                processes=arguments.processes or 1,
                memory_gib=arguments.memory_gib or 2.0,
            )
    files = published_model.interim_members(arguments.folder, arguments.members)
    trainer = "together" if arguments.together else "training"
    code = code_of(f"phonoscreen/forcefield/{trainer}.py")
    published_model.publish(arguments.folder, files, target, code, arguments.test_labels)
    print(f"{target}: {len(files)} members; {published_model.summary(arguments.folder)}")
    print(*republishing.to_run_again(target, arguments.test_labels or arguments.labels), sep="\n")
    return 0


def _check_together(arguments: argparse.Namespace) -> None:
    """Refuse options that the way of training would not look at."""
    from phonoscreen.audit.errors import StudyError

    if arguments.together and arguments.start:
        raise StudyError("members that train together begin from nothing: --start has no effect",
                         where="phonoscreen train", fix="leave out --together or --start")  # fmt: skip
    given = [f"--{name}" for name in ("processes", "memory-gib") if getattr(arguments, name.replace("-", "_"))]
    if arguments.together and given:
        raise StudyError(f"{given[0]} has no effect with --together", where="phonoscreen train", fix="leave it out")
    if arguments.device != "auto" and not arguments.together:
        raise StudyError(f"--device {arguments.device} has no effect without --together", where="phonoscreen train",
                         fix="leave it out: one after another they train on the CPU; or add --together")  # fmt: skip


def _force_sets(arguments: argparse.Namespace) -> tuple[Path, Path] | None:
    """Folder and roles of the force sets to train on, if there are any."""
    from phonoscreen.audit.errors import StudyError

    given = arguments.force_sets, arguments.roles
    if given == (None, None):
        if arguments.force_sets_weight != 1.0:
            raise StudyError("--force-sets-weight has no effect without --force-sets", where="phonoscreen train",
                             fix="leave it out, or give --force-sets and --roles")  # fmt: skip
        return None
    if None in given:
        raise StudyError("force sets are trained on with --force-sets and --roles", where="phonoscreen train",
                         fix="give both, or none of them")  # fmt: skip
    return given


def _settings(path: Path | None) -> dict:
    """Settings of the published model, or of a file in its place."""
    import yaml

    from phonoscreen.audit.errors import StudyError
    from phonoscreen.audit.shipped import shipped
    from phonoscreen.workflow.settings.check import check_settings
    from phonoscreen.workflow.settings.files import check_files

    path = path or shipped("resources/model_training.yaml")
    if not path.is_file():
        raise StudyError(f"there is no settings file {path}", where="phonoscreen train", fix="mend --settings")
    check_files([path])
    return check_settings(yaml.safe_load(path.read_text()) or {})
