"""Errors that name the object, the stage and the remedy."""


class StudyError(ValueError):
    """A problem that a user can act on.

    Parameters
    ----------
    what : what is wrong, with the numbers that show it
    where : the object and the stage, for example ``"oqmd-4061139, stage fit_force_constants"``
    fix : what the user can do about it
    """

    def __init__(self, what, *, where=None, fix=None):
        self.what, self.where, self.fix = what, where, fix
        lines = [what]
        if where:
            lines.append(f"  where: {where}")
        if fix:
            lines.append(f"  fix:   {fix}")
        super().__init__("\n".join(lines))
