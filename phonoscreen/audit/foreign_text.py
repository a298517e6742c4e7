"""Text of other hands (ids, formulas, reasons, names of files) made harmless where it is written.

A spreadsheet runs a cell that begins like a formula; a page shows HTML, links and pictures that a text holds.
"""

import html
import re
from typing import Any

_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_HTML = re.compile(r"<(?=[a-zA-Z/!?])|&(?=#?\w+;)")
_MARKS = re.compile(r"([\\`\[\]~])")
_ADDRESS = re.compile(r"(?i)\b(https?|ftp|mailto|file|javascript|data):|\bwww\.")


def csv_cell(value: Any) -> Any:
    """Return a cell of a CSV file: a text that a spreadsheet would run as a formula gets an apostrophe in front.

    Numbers, also those written as text, stay what they are.
    """
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def markdown_text(text: object) -> str:
    """Return text for a Markdown page in which HTML, links, pictures and code are shown as they are written.

    ``**bold**`` stays, for it is the project's own only mark; a line break becomes a space.
    """
    text = re.sub(r"\s*[\r\n\v\f\x85\u2028\u2029]+\s*", " ", str(text))
    text = _HTML.sub(lambda found: html.escape(found[0]), text)
    text = _MARKS.sub(r"\\\1", text)
    return _ADDRESS.sub(lambda found: found[0][:-1] + ("&#58;" if found[0][-1] == ":" else "&#46;"), text)
