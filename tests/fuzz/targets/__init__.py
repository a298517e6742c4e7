"""Everything that reads what others wrote: seed inputs, made small from model crystals, and how each is read.

A target returns what it accepted, which must be finite, or raises ``StudyError``; nothing else. Add one for every new
reader: a function of a folder, under a function that returns the seed files.
"""

from tests.fuzz.targets import force_constants, models, settings, structures, study, supercells
from tests.fuzz.targets.registry import TARGETS

__all__ = ["TARGETS", "force_constants", "models", "settings", "structures", "study", "supercells"]
