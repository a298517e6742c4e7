"""Engines by one name, as the command line gives them: a universal potential, or any calculator of ASE."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from ase.calculators.calculator import Calculator, FileIOCalculator

from phonoscreen.audit.errors import MachineError, StudyError
from phonoscreen.reference.base import CalculatorEngine
from phonoscreen.reference.registry import make_engine
from phonoscreen.reference.sevennet import SEVENNET_SHIPPED

if TYPE_CHECKING:
    from phonoscreen.reference.base import Engine

CHGNET = "0.3.0"


def engine_of_name(name: str, arguments: dict[str, Any] | None = None, threads: int = 1) -> Engine:
    """Return the engine of a name.

    Parameters
    ----------
    name : ``7net-0``, ``7net-l3i5``, ``chgnet``, a potential of Nequix, or ``module:Class`` of an ASE calculator
    arguments : keyword arguments of the calculator (dict), only with ``module:Class``
    threads : threads the engine may use

    Raises
    ------
    StudyError
        If there is no such potential or class, or it does not take the arguments.
    MachineError
        If a package is not installed.
    """
    if ":" in name:
        return _calculator(name, arguments or {})
    if arguments:
        raise StudyError(f"arguments for {name}, which takes none", where="--potential-arguments",
                         fix="give them with --potential module:Class only")  # fmt: skip
    if name in SEVENNET_SHIPPED:
        return make_engine({"engine": "sevennet", "model": name}, threads)
    if name == "chgnet":
        return make_engine({"engine": "chgnet", "model": CHGNET}, threads)
    if name.startswith("nequix"):
        return make_engine({"engine": "nequix", "model": name}, threads)
    raise StudyError(
        f"unknown potential {name!r}", where="--potential",
        fix=f"use one of {', '.join(SEVENNET_SHIPPED)}, chgnet, nequix-oam-1-pft, or module:Class of an ASE calculator",
    )  # fmt: skip


def _calculator(name, arguments):
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise MachineError(f"{module} cannot be imported: {error}", where="--potential",
                           fix="install the package, or correct the name") from error  # fmt: skip
    except Exception as error:  # a module of the user may raise anything while it is imported
        raise StudyError(f"{name}: {type(error).__name__}: {error}", where="--potential",
                         fix="give module:Class, for example ase.calculators.emt:EMT") from error  # fmt: skip
    unknown = sorted(set(arguments) - known) if (known := _known_arguments(found)) else []
    if unknown:
        raise StudyError(f"{name} knows no {', '.join(unknown)}", where="--potential-arguments",
                         fix=f"use some of {', '.join(sorted(known))}") from None  # fmt: skip
    try:
        calculator = found(**arguments)
    except Exception as error:  # so may its calculator
        what = f"{name} does not take {arguments}: {type(error).__name__}: {error}"
        raise StudyError(what, where="--potential-arguments", fix="give its keyword arguments as JSON") from error
    if not hasattr(calculator, "get_forces"):
        raise StudyError(f"{name} is no calculator of ASE", where="--potential", fix="give the class of a calculator")
    return CalculatorEngine("ase", name, calculator)


def _known_arguments(calculator):
    """Return the names that a calculator takes, empty where they cannot be known.

    ASE's own calculators in Python take any name and never look at those that they do not know: a misspelt one would
    leave the default in force.
    """
    if not (inspect.isclass(calculator) and issubclass(calculator, Calculator)):
        return set()
    if issubclass(calculator, FileIOCalculator) or not calculator.__module__.startswith("ase."):
        return set()
    if not calculator.default_parameters:
        return set()
    named = {
        parameter.name
        for base in calculator.__mro__ if "__init__" in vars(base) and base is not object
        for parameter in inspect.signature(vars(base)["__init__"]).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) and parameter.name != "self"
    }  # fmt: skip
    return named | set(calculator.default_parameters)
