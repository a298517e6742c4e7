"""All compounds of phonondb collected as force sets, their frequencies beside phonopy's.

``make benchmark-force-sets`` prints every compound that cannot be collected or differs by more than 1e-4 THz, and the
largest difference. With a number as its argument it takes that many compounds, evenly from all.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy
from threadpoolctl import threadpool_limits

from phonoscreen.audit.errors import StudyError
from tests.conftest import reference_folder
from tests.test_force_sets import study_against_phonopy

DIFFERENCE_THZ = 1e-4


def main():
    """Print the comparison."""
    started = time.process_time()
    archives = sorted((reference_folder() / "phonondb").rglob("*.tar.lzma"))
    if len(sys.argv) > 1:
        archives = archives[:: max(1, len(archives) // int(sys.argv[1]))]
    differences, refused = [], 0
    for archive in archives:
        with tempfile.TemporaryDirectory() as folder:
            try:
                difference = study_against_phonopy(archive, Path(folder))
            except (StudyError, ValueError) as error:
                refused += 1
                print(f"{archive.name}: {str(error).splitlines()[0]}", flush=True)
                continue
        differences.append(difference)
        if difference > DIFFERENCE_THZ:
            print(f"{archive.name}: {difference:.1e} THz", flush=True)
    print(f"{len(differences)} of {len(archives)} compounds collected and compared, {refused} not; largest difference "
          f"{numpy.max(differences):.1e} THz, median {numpy.median(differences):.1e}")  # fmt: skip
    print(f"CPU seconds: {time.process_time() - started:.0f}")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
