"""Force constants and the files of ShengBTE and Quantum ESPRESSO."""

import numpy

from tests.fuzz.mutations import mutate_bytes
from tests.fuzz.targets.registry import REPETITIONS, rocksalt, target


def shengbte_files(folder):
    from phonoscreen.formats.shengbte import write_directory

    born = numpy.array([1.1 * numpy.eye(3), -1.1 * numpy.eye(3)]), 2.4 * numpy.eye(3)
    write_directory(*rocksalt(), folder, mesh=(4, 4, 4), temperature_k=300, born=born[0], epsilon=born[1])


def only(name):
    """Return the seeds of a ShengBTE folder without its other files."""

    def seeds(folder):
        shengbte_files(folder)
        for path in folder.iterdir():
            if path.name != name:
                path.unlink()

    return seeds


@target(only("CONTROL"))
def control(folder):
    from phonoscreen.formats.control import read_control

    return read_control(folder / "CONTROL")


@target(only("FORCE_CONSTANTS_2ND"))
def force_constants_2nd(folder):
    from phonoscreen.formats.force_constants import read_second_order

    return read_second_order(folder / "FORCE_CONSTANTS_2ND", 2, REPETITIONS)


@target(only("FORCE_CONSTANTS_3RD"))
def force_constants_3rd(folder):
    from phonoscreen.formats.force_constants import read_third_order

    return read_third_order(folder / "FORCE_CONSTANTS_3RD", rocksalt()[0].cell)


@target(shengbte_files)
def shengbte_folder(folder):
    from phonoscreen.formats.bte_folder import read_folder

    problem = read_folder(folder)
    return problem.crystal, problem.second, problem.third, problem.mesh, problem.settings


def espresso_file(folder):
    from tests.test_bte_files import write_espresso

    crystal, second, _ = rocksalt()
    write_espresso(folder / "espresso.ifc2", second, crystal)


@target(espresso_file)
def espresso(folder):
    from phonoscreen.formats.espresso import check_espresso_crystal, read_espresso

    found = read_espresso(folder / "espresso.ifc2", 2, REPETITIONS)
    check_espresso_crystal(folder / "espresso.ifc2", rocksalt()[0])
    return found


def hdf5_files(folder):
    from phonoscreen.formats.phonopy import write_second_hdf5, write_third_hdf5

    write_second_hdf5(rocksalt()[1], folder / "fc2.hdf5")
    write_third_hdf5(rocksalt()[2], REPETITIONS, folder / "fc3.hdf5")


@target(hdf5_files, mutate=mutate_bytes)
def force_constants_hdf5(folder):
    from phonoscreen.formats.phonopy import read_second_hdf5, read_third_hdf5

    second = read_second_hdf5(folder / "fc2.hdf5", 2, REPETITIONS)
    return second, read_third_hdf5(folder / "fc3.hdf5", rocksalt()[0], REPETITIONS)
