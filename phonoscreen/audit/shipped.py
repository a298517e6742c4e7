"""Files that ship with the library: prototypes, pools, published numbers, schemas."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
PLACES = (PACKAGE / "_data", PACKAGE.parent)
"""Where they lie: inside an installed package, or beside the package in the repository."""


def shipped(path: str) -> Path:
    """Return the place of a file that ships with the library, whatever the working folder is.

    Parameters
    ----------
    path : as in the repository, such as ``"resources/prototypes.yaml"`` or ``"schemas/config.schema.json"``

    Raises
    ------
    FileNotFoundError
        If no such file ships.
    """
    for place in PLACES:
        if (place / path).exists():
            return place / path
    raise FileNotFoundError(f"{path} does not ship with phonoscreen (looked in {', '.join(map(str, PLACES))})")
