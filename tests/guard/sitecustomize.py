"""Refuses, in the jobs of a study, every module that does not belong to the environment of the job's rule.

Python imports this file when it starts, if its folder is on PYTHONPATH. ``PHONOSCREEN_GUARD`` names the file that
``tests.environments.write_guard`` wrote. Only scripts of rules are guarded; what Snakemake itself imports in them, to
read the job, is the launcher's and may be there.
"""

import json
import os
import re
import sys


class _Guarded:
    """A finder of modules that does not find those of other environments."""

    def __init__(self, finder, foreign):
        self._finder, self._foreign = finder, foreign

    def __getattr__(self, name):
        return getattr(self._finder, name)

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in self._foreign and not top.startswith("snakemake") and not _from_snakemake():
            return None
        return self._finder.find_spec(name, path, target)


def _from_snakemake():
    """Whether the module that imports belongs to Snakemake, directly or through what it imports."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith("phonoscreen"):
            return False
        if name.partition(".")[0].startswith("snakemake"):
            return True
        frame = frame.f_back
    return False


def _install():
    place = os.environ.get("PHONOSCREEN_GUARD")
    found = [m for word in sys.orig_argv for m in re.findall(r"\.snakemake/scripts/\w+\.(\w+)\.py$", word)]
    if place and found:
        with open(place) as stream:
            known = json.load(stream)
        foreign = set(known["installed"]) - set(known["scripts"][found[0]])
        sys.meta_path[:] = [_Guarded(finder, foreign) for finder in sys.meta_path]


_install()
