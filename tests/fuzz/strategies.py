"""The mutations of ``tests.fuzz.mutations`` as strategies of hypothesis, which makes a failing example small."""

from random import Random

from hypothesis import strategies

from tests.fuzz.mutations import mutate_text


def mutated(texts):
    """Draw one of some texts (list of str) after one to three changes of numbers, words, lines or bytes."""

    def change(text, seed):
        return mutate_text(text.encode(), Random(seed)).decode("utf-8", "replace")

    return strategies.builds(change, strategies.sampled_from(texts), strategies.integers(0, 2**32 - 1))


def json_values(depth=3):
    """Odd values that a service may send for anything."""
    text = strategies.text(max_size=8)
    leaves = strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats() | text

    def nested(inner):
        return strategies.lists(inner, max_size=3) | strategies.dictionaries(text, inner, max_size=3)

    return strategies.recursive(leaves, nested, max_leaves=depth)
