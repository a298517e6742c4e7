"""What a damaged, mistaken or hostile hand does to a file."""

import copy
import json
import math
import re

NUMBER = re.compile(rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][-+]?\d+)?")
WORDS = [
    b"nan", b"NaN", b"inf", b"-inf", b"0", b"-1", b"1", b"2", b"1.5", b"1e308", b"-1e308", b"1e-308", b"1e9",
    b"999999999", b"4294967296", b"18446744073709551616", b"1" * 400, b"1e400", b"1d0", b"1_000", b"0x10", b"", b"x",
    b"None", b"null", b"true", b"'", b'"', b"{", b"[", b"]", b"}", b",", b":", b"=", b"/", b"&", b"*", b"\x00",
    b"\xff\xfe", "Ä".encode(), b"Na", b"Xx", b"D", b"../..", b"\n", b"\r\n", b"\t", b"#", b"!",
]  # fmt: skip
VALUES = [
    None, True, False, 0, -1, 1, 5.0, 5.5, 1e308, -1e308, 10**9, 10**30, 10**400, math.nan, math.inf,
    -math.inf, "", "x", "1",
    "nan", "1e5", "=1+1", "<b>", "../x", "a\x00b", "x" * 5000, [], {}, [[]], [None], {"a": 1}, [1, 2, 3], "2020-01-01",
]  # fmt: skip


def mutate_bytes(content, random):
    """Return the bytes of a file after one to four small damages."""
    for _ in range(random.choice((1, 1, 1, 2, 3, 4))):
        content = random.choice((_bit, _cut, _remove, _repeat, _overwrite, _empty if random.random() < 0.05 else _bit))(
            content, random
        )
    return content


def mutate_text(content, random):
    """Return the bytes of a text file after one to three changes of numbers, words or lines, or a damage of bytes."""
    if random.random() < 0.15:
        return mutate_bytes(content, random)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        content = random.choice((_number, _number, _number, _word, _line, _line, _insert))(content, random)
    return content


def mutate_json(content, random):
    """Return the bytes of a JSON document in which one to three values, keys or types are others."""
    if random.random() < 0.1:
        return mutate_text(content, random)
    document = json.loads(content)
    for _ in range(random.choice((1, 1, 2, 3))):
        document = mutate_document(document, random)
    return json.dumps(document).encode()


def mutate_document(document, random):
    """Return a document of dicts and lists in which one value, key or type is another."""
    places = list(_places(document))
    if not places:
        return copy.deepcopy(random.choice(VALUES))
    parent, key = random.choice(places)
    what = random.random()
    if what < 0.7:
        parent[key] = copy.deepcopy(random.choice(VALUES))
    elif what < 0.8:
        del parent[key]
    elif what < 0.9 and isinstance(parent, dict):
        parent[random.choice(("x", "", "NaN", str(key).upper(), f"{key} "))] = parent.pop(key)
    else:
        other_parent, other_key = random.choice(places)
        parent[key] = copy.deepcopy(other_parent[other_key])
    return document


def _places(document):
    children = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in list(children):
        yield document, key
        yield from _places(value)


def _bit(content, random):
    if not content:
        return content
    place = random.randrange(len(content))
    return content[:place] + bytes([content[place] ^ (1 << random.randrange(8))]) + content[place + 1 :]


def _span(content, random):
    begin = random.randrange(len(content) + 1)
    return begin, min(len(content), begin + random.choice((1, 2, 8, 64, 512)))


def _cut(content, random):
    return content[: random.randrange(len(content) + 1)]


def _remove(content, random):
    begin, end = _span(content, random)
    return content[:begin] + content[end:]


def _repeat(content, random):
    begin, end = _span(content, random)
    return content[:end] + content[begin:end] * random.choice((1, 2, 50)) + content[end:]


def _overwrite(content, random):
    begin, end = _span(content, random)
    return content[:begin] + bytes([random.choice((0, 255, 32))]) * (end - begin) + content[end:]


def _empty(content, random):
    return b""


def _number(content, random):
    found = list(NUMBER.finditer(content))
    if not found:
        return _word(content, random)
    # numbers at the head of a file are its sizes: they are hit as often as all the others
    chosen = random.choice(found[:12] if random.random() < 0.5 else found)
    return content[: chosen.start()] + random.choice(WORDS) + content[chosen.end() :]


def _word(content, random):
    found = list(re.finditer(rb"\S+", content))
    if not found:
        return content
    chosen = random.choice(found)
    return content[: chosen.start()] + random.choice(WORDS) + content[chosen.end() :]


def _insert(content, random):
    place = random.randrange(len(content) + 1)
    return content[:place] + random.choice(WORDS) + content[place:]


def _line(content, random):
    lines = content.split(b"\n")
    place = random.randrange(len(lines))
    what = random.random()
    if what < 0.4:
        del lines[place]
    elif what < 0.6:
        lines[place:place] = [lines[place]] * random.choice((1, 3))
    elif what < 0.8:
        other = random.randrange(len(lines))
        lines[place], lines[other] = lines[other], lines[place]
    else:
        lines = lines[:place]
    return b"\n".join(lines)
