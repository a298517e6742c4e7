"""How the docstrings are read for the site: "name : words" is a description, the type is the annotation's."""

import re

import griffe


class Descriptions(griffe.Extension):
    """Moves what stands behind the colon of a parameter, attribute or returned value into its description."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        """Read the docstring of one object."""
        if obj.docstring is None:
            return
        kinds = griffe.DocstringSectionKind
        for section in obj.docstring.parsed:
            if section.kind in (kinds.parameters, kinds.attributes, kinds.returns, kinds.yields):
                for item in section.value:
                    if item.annotation is not None and not item.description:
                        item.description = _words(item.annotation, obj.docstring.value)
                        item.annotation = _annotation(obj, item.name)


def _words(annotation, docstring):
    """Return a description as it was written; text that could be code was parsed as code."""
    text = str(annotation)
    for line in docstring.splitlines():
        words = line.partition(" : ")[2] or line.strip()
        if _bare(words) == _bare(text):
            return words
    return text


def _bare(text):
    return re.sub(r"[\s()]", "", text)


def _annotation(obj, name):
    """Return the annotation that the code gives to a parameter or attribute."""
    if obj.is_function and name in obj.parameters:
        return obj.parameters[name].annotation
    if obj.is_class and name in obj.members and obj.members[name].is_attribute:
        return obj.members[name].annotation
    return None
