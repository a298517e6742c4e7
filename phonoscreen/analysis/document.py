"""A page of headings, paragraphs, tables and figures, as Markdown and as self-contained HTML.

Every text is escaped, wherever it comes from: ids, formulas and reasons are written by other hands.
"""

import base64
import html
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from phonoscreen.audit.foreign_text import markdown_text

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: .3rem; }
h2 { font-size: 1.25rem; margin-top: 2.4rem; border-bottom: 1px solid #ccc; padding-bottom: .2rem; }
h3 { font-size: 1.05rem; margin-top: 1.6rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .8rem 0; font-size: .9rem; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #e2e2e2; text-align: left; vertical-align: top; }
th { border-bottom: 2px solid #555; font-weight: 600; }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
figure { margin: 1.6rem 0; }
figure img { max-width: 100%; height: auto; }
figcaption { font-size: .9rem; color: #333; max-width: 50rem; }
"""
_NUMBER = re.compile(r"^[<>≈]?\s?[-−+]?[\d,.]+(e[-+]?\d+)?(\s?%|\s?\([\d.,]+\s?%\))?$|^—$|^not attempted$")


class Document:
    """Blocks of a page in the order they were added.

    Parameters
    ----------
    title : heading of the page
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.blocks: list[tuple] = []

    def heading(self, text: str, level: int = 2) -> None:
        """Add a heading."""
        self.blocks.append(("heading", level, text))

    def paragraph(self, text: str) -> None:
        """Add a paragraph."""
        self.blocks.append(("paragraph", text))

    def table(self, headers: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
        """Add a table of texts; columns that hold only numbers are set to the right."""
        texts = [[str(cell) for cell in row] for row in rows]
        filled = [[row[column] for row in texts if row[column]] for column in range(len(headers))]
        numeric = [bool(cells) and all(_NUMBER.match(cell) for cell in cells) for cells in filled]
        self.blocks.append(("table", list(headers), texts, numeric))

    def figure(self, path: str | os.PathLike, caption: str) -> None:
        """Add a PNG picture; HTML holds the picture itself, Markdown a link to it."""
        self.blocks.append(("figure", str(path), caption))

    def markdown(self, folder: str | os.PathLike) -> str:
        """Return the page as Markdown with links relative to a folder."""
        lines = [f"# {markdown_text(self.title)}", ""]
        for kind, *content in self.blocks:
            if kind == "heading":
                lines += ["#" * content[0] + f" {markdown_text(content[1])}", ""]
            elif kind == "paragraph":
                lines += [markdown_text(content[0]), ""]
            elif kind == "table":
                headers, rows, numeric = content
                lines.append(_markdown_row(headers))
                lines.append("|" + "|".join(" ---: " if right else " --- " for right in numeric) + "|")
                lines += [*map(_markdown_row, rows), ""]
            else:
                path, caption = content
                link = f"![{Path(path).stem}]({os.path.relpath(path, folder)})"
                lines += [link, "", markdown_text(caption), ""]
        return "\n".join(lines)

    def html(self) -> str:
        """Return the page as HTML that needs no other file."""
        parts = []
        for kind, *content in self.blocks:
            if kind == "heading":
                parts.append(f"<h{content[0]}>{_inline(content[1])}</h{content[0]}>")
            elif kind == "paragraph":
                parts.append(f"<p>{_inline(content[0])}</p>")
            elif kind == "table":
                parts.append(_html_table(*content))
            else:
                path, caption = content
                data = base64.b64encode(Path(path).read_bytes()).decode()
                image = f'<img alt="{html.escape(Path(path).stem)}" src="data:image/png;base64,{data}">'
                parts.append(f"<figure>{image}<figcaption>{_inline(caption)}</figcaption></figure>")
        title = html.escape(self.title)
        return (
            f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
            f'<meta name="viewport" content="width=device-width">\n<style>{_STYLE}</style>\n</head>\n'
            f"<body>\n<h1>{title}</h1>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
        )


def _markdown_row(cells):
    return "| " + " | ".join(markdown_text(cell).replace("|", "\\|") for cell in cells) + " |"


def _html_table(headers, rows, numeric):
    marks = [' class="number"' if right else "" for right in numeric]
    head = "".join(f"<th{mark}>{_inline(text)}</th>" for mark, text in zip(marks, headers))
    body = "\n".join(
        "<tr>" + "".join(f"<td{mark}>{_inline(text)}</td>" for mark, text in zip(marks, row)) + "</tr>" for row in rows
    )
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def _inline(text):
    """Escape text for HTML; **bold** and the indices of κ_p, κ_c and κ_total are kept."""
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html.escape(text))
    return re.sub(r"κ_(p|c|total)\b", r"κ<sub>\1</sub>", text)
