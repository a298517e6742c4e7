"""Structure ids: one rule for all sources, so that an id can stand in a table, an HDF5 file and a path without harm."""

import hashlib
import re
import unicodedata

LONGEST = 100
_ALLOWED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=,()-]*")
RULE = (
    f"1 to {LONGEST} characters: letters and digits of ASCII and . _ + = , ( ) -, a letter or digit first, no dot last"
)


def problem_of_id(structure_id: object) -> str:
    """Return why a text cannot be a structure id, or "".

    Parameters
    ----------
    structure_id : str
    """
    if not isinstance(structure_id, str):
        return f"the id {structure_id!r} is not text"
    if not structure_id:
        return "the id is empty"
    shown = repr(structure_id if len(structure_id) <= 60 else f"{structure_id[:60]}…")
    if len(structure_id) > LONGEST:
        return f"the id {shown} has {len(structure_id)} characters, more than {LONGEST}"
    if not _ALLOWED.fullmatch(structure_id) or ".." in structure_id or structure_id.endswith("."):
        return f"the id {shown} holds characters that an id must not hold"
    return ""


def harmless_id(text: object) -> str:
    """Return an id made of a text: the text itself where the rule allows it, else a similar one with a digest.

    Different texts give different ids.

    Parameters
    ----------
    text : anything; its ``str`` counts
    """
    text = str(text)
    if not problem_of_id(text):
        return text
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9._+=,()-]+|\.{2,}", "-", plain).strip("-._+=,()")[:60].rstrip("-.")
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain}-{digest}" if plain else f"structure-{digest}"


def file_name(structure_id: object) -> str:
    """Return the name of a structure's file or folder: its id, or a harmless text for what is no id.

    Every path that is made of an id is made with this function.
    """
    return harmless_id(structure_id)
