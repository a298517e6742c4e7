"""Settings of a screening of the whole pool (docs/screen.md)."""

from phonoscreen.workflow.settings.fields import Section, Text, count, optional
from phonoscreen.workflow.settings.study import Study


class Screening(Section):
    """A screening of the enumerated pool with a published model."""

    model: Text = "resources/model"
    """Folder of the published model that gives the forces."""
    blocks: count(1, 9999) = 160
    """Parts of the pool; each has all classes in the pool's proportion."""
    first: optional(count(1, 9999)) = None
    """How many of the blocks are computed, from the first on; null: all."""


class ScreeningStudy(Study):
    """A study whose settings of the stages serve a screening."""

    screening: Screening = Screening()
