"""Names of the parts a study is divided into."""


def shard_names(count):
    """Return the names of ``count`` shards: 0000, 0001, …"""
    return [f"{number:04d}" for number in range(count)]


def member_names(count):
    """Return the names of the committee's members: 0, 1, …"""
    return [str(number) for number in range(count)]


def curve_points(experiment):
    """Return the points of the experiment's learning curves.

    With ``scale`` the curve goes on by doubling up to that many times its last size.

    Parameters
    ----------
    experiment : section ``experiment`` of the settings

    Returns
    -------
    list of dicts with ``model, size, repeat`` and ``members``: names of the members trained there, a committee at the
    first repeat of the largest size, one member elsewhere
    """
    curve = list(experiment["learning_curve"])
    largest = experiment["scale"] * curve[-1][0]
    while curve[-1][0] < largest:
        curve.append([min(2 * curve[-1][0], largest), 1])
    return [
        {
            "model": model,
            "size": size,
            "repeat": repeat,
            "members": member_names(experiment["committee"] if (size, repeat) == (largest, 0) else 1),
        }
        for model in experiment["models"]
        for size, repeats in curve
        for repeat in range(repeats)
    ]


def curve_sources(points):
    """Return the sources of forces among the points, those whose phonons are compared.

    One member at the first repeat of every size, and the committee's mean where there is a committee.

    Parameters
    ----------
    points : list of ``curve_points``

    Returns
    -------
    dict by name, for example ``"equivariant-240"`` and ``"equivariant-240-committee"``, of dicts with ``model, size,
    repeat, members``
    """
    sources = {}
    for point in points:
        if point["repeat"] == 0:
            name = f"{point['model']}-{point['size']}"
            sources[name] = {**point, "members": point["members"][:1]}
            if len(point["members"]) > 1:
                sources[f"{name}-committee"] = point
    return sources
