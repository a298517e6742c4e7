"""Parameters of the expensive rules: said when they change, not acted upon until somebody asks."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any


def unwatched(value: Any) -> Callable:
    """Return a rule's parameter whose change does not run the rule again.

    Snakemake compares the parameters of a rule with those that made its outputs, except those that a function derives
    from the outputs: they could not tell anything new. This is such a function.
    """

    def parameter(wildcards, output):
        return value

    parameter.unwatched = value  # type: ignore[attr-defined]
    return parameter


def current_settings(workflow: Any, names: Mapping[str, Iterable[str]]) -> dict[str, dict[str, Any]]:
    """Return the settings and the code with which the expensive rules would work now.

    Parameters
    ----------
    workflow : Snakemake's workflow, with these rules
    names : of the parameters that make their products, by rule (``phonoscreen.audit.protected.UNWATCHED``)

    Returns
    -------
    dict by rule of dicts by parameter
    """
    return {
        rule: {key: item.unwatched for key, item in workflow.get_rule(rule).params._allitems() if key in wanted}
        for rule, wanted in names.items()
    }


def forced_names(dag_settings: Any) -> list[str]:
    """Return the rules and files that a snakemake call asks for anew; ``"*"`` where it forces everything.

    ``--force`` is not among them: it brings a damaged or lost product back from what was kept.

    Parameters
    ----------
    dag_settings : of Snakemake's workflow
    """
    names = [str(name) for name in dag_settings.forcerun]
    if dag_settings.forceall:
        names.append("*")
    return names
