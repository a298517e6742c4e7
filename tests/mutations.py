"""Mutations of the texts that programs write: what a careless hand, a cut transfer or an attacker makes of them."""

from hypothesis import strategies

ODD_WORDS = (
    "nan", "-nan", "inf", "-inf", "1e400", "1e308", "-1", "0", "1e-320", "999999999999", "1e9", "", "?", ".", "*",
    "None", "true", "D", "X", "Na0.5", "0.5", "\x00", "é", "1/3", "1d0", "'", '"', "[", "{", "%s", "../../x", "=1+1",
)  # fmt: skip


@strategies.composite
def mutated(draw, texts, changes=3):
    """Draw one of some texts with up to a few changes: words and lines replaced, removed, repeated, swapped, or a cut.

    Parameters
    ----------
    texts : list of str
    changes : largest number of changes
    """
    text = draw(strategies.sampled_from(texts))
    for _ in range(draw(strategies.integers(1, changes))):
        text = draw(strategies.sampled_from(_CHANGES))(draw, text)
    return text


def _word(draw, text):
    words = text.split(" ")
    place = draw(strategies.integers(0, len(words) - 1))
    words[place] = draw(strategies.sampled_from(ODD_WORDS) | strategies.text(max_size=5))
    return " ".join(words)


def _number(draw, text):
    """Replace one run of digits."""
    places = [n for n, letter in enumerate(text) if letter.isdigit()]
    if not places:
        return text
    start = end = draw(strategies.sampled_from(places))
    while end < len(text) and (text[end].isdigit() or text[end] == "."):
        end += 1
    return text[:start] + draw(strategies.sampled_from(ODD_WORDS)) + text[end:]


def _line(draw, text):
    lines = text.split("\n")
    first, second = (draw(strategies.integers(0, len(lines) - 1)) for _ in range(2))
    action = draw(strategies.sampled_from(("remove", "repeat", "swap", "empty")))
    if action == "remove":
        del lines[first]
    elif action == "repeat":
        lines.insert(second, lines[first])
    elif action == "swap":
        lines[first], lines[second] = lines[second], lines[first]
    else:
        lines[first] = ""
    return "\n".join(lines)


def _cut(draw, text):
    return text[: draw(strategies.integers(0, len(text)))]


def _character(draw, text):
    place = draw(strategies.integers(0, max(0, len(text) - 1)))
    return text[:place] + draw(strategies.characters()) + text[place + 1 :]


_CHANGES = (_word, _number, _line, _cut, _character)


def json_values(depth=3):
    """Odd values that a service may send for anything."""
    text = strategies.text(max_size=8)
    leaves = strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats() | text

    def nested(inner):
        return strategies.lists(inner, max_size=3) | strategies.dictionaries(text, inner, max_size=3)

    return strategies.recursive(leaves, nested, max_leaves=depth)
