"""Names of the parts a study is divided into."""


def shard_names(count: int) -> list[str]:
    """Return the names of ``count`` shards: 0000, 0001 and so on."""
    return [f"{number:04d}" for number in range(count)]


def member_names(count: int) -> list[str]:
    """Return the names of the committee's members: 0, 1 and so on."""
    return [str(number) for number in range(count)]
