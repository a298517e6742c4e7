"""Names of the parts a study is divided into, and how many jobs share one."""

from typing import Any

SHARES_MAX = 300
"""Jobs that calculate shares of shards, in a whole study: with them it submits at most 1,500."""
DFT_CODES = ("vasp", "gpaw", "espresso")
"""Engines that run a program of density functional theory for each calculation."""


def shared_stages(config: dict[str, Any]) -> list[str]:
    """Return the stages whose calculations several jobs may share: relaxations and supercells by a DFT code."""
    if config["reference"]["engine"] not in DFT_CODES:
        return []
    return [*(["relaxations"] if config["relax"]["engine"] == "reference" else []), "supercells"]


def jobs_per_shard(config: dict[str, Any]) -> int:
    """Return how many jobs share the calculations of a shard: as the settings say, ``SHARES_MAX`` in all at most."""
    most = SHARES_MAX // (max(1, len(shared_stages(config))) * config["shards"])
    return max(1, min(config["reference"]["jobs_per_shard"], most))


def shard_names(count: int) -> list[str]:
    """Return the names of ``count`` shards: 0000, 0001 and so on."""
    return [f"{number:04d}" for number in range(count)]


def member_names(count: int) -> list[str]:
    """Return the names of the committee's members: 0, 1 and so on."""
    return [str(number) for number in range(count)]
