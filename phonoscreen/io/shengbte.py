"""ShengBTE's CONTROL file and the second-order force constants of Quantum ESPRESSO (espresso.ifc2).

Formats: W. Li, J. Carrete, N. A. Katcho, N. Mingo, Comput. Phys. Commun. 185, 1747 (2014), and the manual of
ShengBTE; q2r.x of Quantum ESPRESSO.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy
from scipy import constants

from phonoscreen.audit.errors import StudyError
from phonoscreen.io.force_constants import read_second_order, read_third_order, write_second_order, write_third_order
from phonoscreen.lattice.constants import Crystal, SecondOrder
from phonoscreen.transport.isotopes import natural_isotopes

RYDBERG_PER_BOHR2 = (
    constants.value("Rydberg constant times hc in eV") / (constants.value("Bohr radius") / constants.angstrom) ** 2
)
BOHR_ANGSTROM = constants.value("Bohr radius") / constants.angstrom

_ARRAYS = {  # shape of each array in terms of the sizes of &allocations, and its element type
    "ngrid": ((3,), int), "lattvec": ((3, 3), float), "types": (("natoms",), int), "elements": (("nelements",), str),
    "positions": ((3, "natoms"), float), "masses": (("nelements",), float), "gfactors": (("nelements",), float),
    "epsilon": ((3, 3), float), "born": ((3, 3, "natoms"), float), "scell": ((3,), int),
    "orientations": ((3, "norientations"), int),
}  # fmt: skip


@dataclass
class Control:
    """What a CONTROL file asks for.

    Attributes
    ----------
    crystal : ``phonoscreen.lattice.constants.Crystal``; masses of the natural isotopes unless the file gives them
    mesh : (3,) integers
    repetitions : (3,) integers of the second-order supercell
    temperatures_k : tuple
    scalebroad : factor on the broadening
    iterations_max, tolerance : of the full solution
    epsilon, born : dielectric tensor (3, 3) and Born charges (n_atoms, 3, 3), or None
    mass_variances : (n_atoms,) given in the file, or None for natural isotopes
    flags : dict of booleans ``nonanalytic, convergence, isotopes, onlyharmonic, espresso, nanowires``
    mean_free_paths_nm : (n,) ticks of the cumulative conductivity
    n_ticks : number of frequency ticks
    omega_max : highest frequency considered, rad/ps, or None
    """

    crystal: Crystal
    mesh: tuple
    repetitions: tuple
    temperatures_k: tuple
    scalebroad: float = 1.0
    iterations_max: int = 1000
    tolerance: float = 1e-5
    epsilon: numpy.ndarray | None = None
    born: numpy.ndarray | None = None
    mass_variances: numpy.ndarray | None = None
    flags: dict = field(default_factory=dict)
    mean_free_paths_nm: numpy.ndarray | None = None
    n_ticks: int = 100
    omega_max: float | None = None


def read_namelists(path):
    """Read a file of Fortran namelists.

    Parameters
    ----------
    path : text file

    Returns
    -------
    dict of namelist name to dict of variable name to list of (index, words): the text in brackets or "", and the
    values with repeat counts written out; names in lower case

    Raises
    ------
    StudyError
        If the file is missing, or a namelist is not closed.
    """
    path = Path(path)
    if not path.is_file():
        raise StudyError(f"{path} does not exist", where="transport", fix="run in a folder with a CONTROL file")
    text = "\n".join(_strip_comment(line) for line in path.read_text(errors="replace").splitlines())
    groups, position = {}, 0
    for found in re.finditer(r"&(\w+)", text):
        name = found[1].lower()
        if found.start() < position or name == "end":
            continue
        end = re.compile(r"&end\b|(?<![^\s,])/(?!\S)|/\s*$", re.I | re.M).search(text, found.end())
        if end is None:
            raise StudyError(f"namelist &{name} of {path} is not closed", where="transport", fix="end it with &end")
        position = end.end()
        groups[name] = _assignments(text[found.end() : end.start()])
    return groups


def read_control(path):
    """Read ShengBTE's CONTROL file.

    Parameters
    ----------
    path : text file

    Returns
    -------
    Control

    Raises
    ------
    StudyError
        If a required entry is missing or contradicts another, or an element is unknown.
    """
    groups = read_namelists(path)
    entries = {name: values for group in groups.values() for name, values in group.items()}
    where = str(path)

    def scalar(name, default=None, kind=float):
        if name not in entries:
            if default is None:
                raise StudyError(f"{name} is missing", where=where, fix=f"add {name} to CONTROL")
            return default
        return _convert(entries[name][-1][1][0], kind, name, where)

    sizes = {name: scalar(name, kind=int) for name in ("natoms", "nelements")}
    sizes["norientations"] = scalar("norientations", 0, int)

    def array(name):
        if name not in entries:
            return None
        shape, kind = _ARRAYS[name]
        return _array(name, entries[name], tuple(sizes.get(n, n) for n in shape), kind, where)

    needed = {name: array(name) for name in ("ngrid", "lattvec", "types", "elements", "positions", "scell")}
    missing = [name for name, value in needed.items() if value is None]
    if missing:
        raise StudyError(f"{', '.join(missing)} missing", where=where, fix="complete CONTROL")
    types = needed["types"] - 1
    if types.min() < 0 or types.max() >= sizes["nelements"]:
        raise StudyError(f"types {(types + 1).tolist()} name elements outside 1..{sizes['nelements']}", where=where,
                         fix="correct types or nelements")  # fmt: skip
    flags = {"nonanalytic": True, "convergence": True, "isotopes": True, "autoisotopes": True, "nanowires": False,
             "onlyharmonic": False, "espresso": False}  # fmt: skip
    flags = {name: scalar(name, default, bool) if name in entries else default for name, default in flags.items()}
    numbers = numpy.array([_atomic_number(needed["elements"][t], where) for t in types])
    masses, variances = _masses(numbers, types, flags, array("masses"), array("gfactors"), where)
    cell = needed["lattvec"].T * scalar("lfactor", 1.0) * 10.0
    crystal = Crystal(cell, needed["positions"].T, numbers, masses)
    epsilon, born = array("epsilon"), array("born")
    if flags["nonanalytic"] and (epsilon is None or born is None or not numpy.any(born)):
        flags["nonanalytic"] = False
    return Control(
        crystal=crystal,
        mesh=tuple(needed["ngrid"].tolist()),
        repetitions=tuple(needed["scell"].tolist()),
        temperatures_k=_temperatures(scalar, entries, where),
        scalebroad=scalar("scalebroad", 1.0),
        iterations_max=scalar("maxiter", 1000, int),
        tolerance=scalar("eps", 1e-5),
        epsilon=epsilon.T if flags["nonanalytic"] else None,
        born=born.transpose(2, 0, 1) if flags["nonanalytic"] else None,
        mass_variances=variances,
        flags=flags,
        mean_free_paths_nm=numpy.geomspace(0.01, 1e6, scalar("nticks", 100, int)),
        n_ticks=scalar("nticks", 100, int),
        omega_max=scalar("omega_max", 1e100) if "omega_max" in entries else None,
    )


def write_directory(crystal, second, third, folder, *, mesh, temperature_k, scalebroad=1.0, isotopes=True, born=None,
                    epsilon=None, iterations_max=1000, tolerance=1e-5):  # fmt: skip
    """Write CONTROL, FORCE_CONSTANTS_2ND and FORCE_CONSTANTS_3RD: a folder that ShengBTE runs in.

    Parameters
    ----------
    crystal : ``phonoscreen.lattice.constants.Crystal``
    second, third : ``SecondOrder`` and ``ThirdOrder``
    folder : made if it does not exist
    mesh : (3,) integers
    temperature_k : kelvin
    scalebroad, isotopes, iterations_max, tolerance : as in ``phonoscreen.transport.solve.Settings``
    born, epsilon : (n_atoms, 3, 3) and (3, 3), both or neither
    """
    from ase.data import chemical_symbols

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kinds = list(dict.fromkeys(numpy.asarray(crystal.numbers).tolist()))
    symbols = " ".join(f'"{chemical_symbols[number]}"' for number in kinds)
    lines = ["&allocations", f"  nelements={len(kinds)}", f"  natoms={len(crystal.numbers)}",
             f"  ngrid(:)={_join(mesh)}", "&end", "&crystal", "  lfactor=0.1"]  # fmt: skip
    lines += [f"  lattvec(:,{i})={_join(vector)}" for i, vector in enumerate(crystal.cell, 1)]
    lines += [f"  elements={symbols}", f"  types={_join(kinds.index(n) + 1 for n in crystal.numbers)}"]
    lines += [f"  positions(:,{i})={_join(point)}" for i, point in enumerate(crystal.scaled_positions, 1)]
    if born is not None:
        lines += [f"  epsilon(:,{i})={_join(row)}" for i, row in enumerate(numpy.asarray(epsilon).T, 1)]
        lines += [
            f"  born(:,{j},{a})={_join(numpy.asarray(charge)[:, j - 1])}"
            for a, charge in enumerate(born, 1) for j in (1, 2, 3)
        ]  # fmt: skip
    lines += [f"  scell(:)={_join(second.repetitions)}", "&end", "&parameters", f"  T={temperature_k:g}",
              f"  scalebroad={scalebroad:g}", f"  maxiter={iterations_max}", f"  eps={tolerance:g}", "&end", "&flags",
              f"  nonanalytic={_logical(born is not None)}", f"  isotopes={_logical(isotopes)}",
              "  nanowires=.FALSE.", "&end", ""]  # fmt: skip
    (folder / "CONTROL").write_text("\n".join(lines))
    write_second_order(second, folder / "FORCE_CONSTANTS_2ND")
    write_third_order(third, crystal.cell, folder / "FORCE_CONSTANTS_3RD")


def read_force_constants(folder, control):
    """Read the force constants that stand beside a CONTROL file (plain or compressed with xz).

    Returns
    -------
    second : SecondOrder
    third : ThirdOrder, or None where CONTROL asks for harmonic properties only
    alat_angstrom : lattice parameter celldm(1) of espresso.ifc2, or None
    """
    folder = Path(folder)
    n, alat = len(control.crystal.numbers), None
    if control.flags["espresso"]:
        second, alat = read_espresso(_existing(folder, "espresso.ifc2"), n, control.repetitions)
    else:
        second = read_second_order(_existing(folder, "FORCE_CONSTANTS_2ND"), n, control.repetitions)
    third = None
    if not control.flags["onlyharmonic"]:
        third = read_third_order(_existing(folder, "FORCE_CONSTANTS_3RD"), control.crystal.cell)
    return second, third, alat


def read_espresso(path, n_atoms, repetitions):
    """Read the interatomic force constants that q2r.x of Quantum ESPRESSO writes.

    The header's cell, positions, masses and charges are skipped: CONTROL gives them, as ShengBTE expects. The acoustic
    sum rule is imposed on the atoms' own constants.

    Parameters
    ----------
    path : text file
    n_atoms : atoms of the cell
    repetitions : (3,) grid of the file

    Returns
    -------
    SecondOrder, and celldm(1) in angstrom

    Raises
    ------
    StudyError
        If the file is for another cell or grid, or is cut.
    """
    lines = Path(path).read_text().splitlines()
    try:
        head = lines[0].split()
        n_types, n_file, ibrav = (int(word) for word in head[:3])
        alat = float(head[3]) * BOHR_ANGSTROM
        at = 1 + (3 if ibrav == 0 else 0) + n_types + n_file
        polar = lines[at].split()[0].strip(".").upper().startswith("T")
        at += 1 + (3 + 4 * n_file if polar else 0)
        grid = tuple(int(word) for word in lines[at].split()[:3])
        words = " ".join(lines[at + 1 :]).replace("D", "E").split()
    except (IndexError, ValueError) as error:
        raise StudyError(f"{path} is not a force-constant file of q2r.x: {error}", where="transport",
                         fix="write it again with q2r.x") from None  # fmt: skip
    if n_file != n_atoms or grid != tuple(repetitions):
        raise StudyError(
            f"{path} holds {n_file} atoms on grid {grid}, CONTROL {n_atoms} atoms and scell {tuple(repetitions)}",
            where="transport", fix="make them agree",
        )  # fmt: skip
    total = int(numpy.prod(grid))
    if len(words) < 9 * n_atoms**2 * (4 + 4 * total):
        raise StudyError(f"{path} is cut: {len(words)} of {9 * n_atoms**2 * (4 + 4 * total)} numbers",
                         where="transport", fix="copy it again")  # fmt: skip
    table = numpy.array(words[: 9 * n_atoms**2 * (4 + 4 * total)], float).reshape(-1, 4 + 4 * total)
    i, j, a, b = table[:, :4].astype(int).T - 1
    entries = table[:, 4:].reshape(len(table), total, 4)
    # the file counts the lattice vector of the first atom, SecondOrder that of the second
    cells = numpy.mod(1 - entries[:, :, :3].astype(int), grid)
    index = numpy.ravel_multi_index(tuple(numpy.moveaxis(cells, 2, 0)), grid) * n_atoms + b[:, None]
    values = numpy.zeros((n_atoms, total * n_atoms, 3, 3))
    values[a[:, None], index, i[:, None], j[:, None]] = entries[:, :, 3] * RYDBERG_PER_BOHR2
    own = numpy.arange(n_atoms)
    values[own, own] -= values.sum(axis=1)
    return SecondOrder(grid, values), alat


def _existing(folder, name):
    for path in (folder / name, folder / f"{name}.xz"):
        if path.is_file():
            return path
    raise StudyError(f"{folder / name} does not exist", where="transport", fix="copy it beside CONTROL")


def _strip_comment(line):
    quoted = False
    for k, letter in enumerate(line):
        if letter in "\"'":
            quoted = not quoted
        elif letter == "!" and not quoted:
            return line[:k]
    return line


def _assignments(text):
    starts = list(re.finditer(r"(\w+)\s*(?:\(([^)]*)\))?\s*=", text))
    found = {}
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        value = text[start.end() : following.start() if following else len(text)]
        words = []
        for word in re.findall(r"\"[^\"]*\"|'[^']*'|[^\s,]+", value):
            count, star, rest = word.partition("*")
            if star and count.isdigit():
                words += [rest] * int(count)
            else:
                words.append(word)
        found.setdefault(start[1].lower(), []).append(((start[2] or "").replace(" ", ""), words))
    return found


def _convert(word, kind, name, where):
    try:
        if kind is str:
            return word.strip("\"' ")
        if kind is bool:
            return {"t": True, "f": False}[word.strip(".").lower()[0]]
        number = float(re.sub(r"[dD]", "e", word))
        return int(number) if kind is int else number
    except (ValueError, KeyError, IndexError):
        raise StudyError(
            f"{name} = {word}: not a value of type {kind.__name__}", where=where, fix="correct CONTROL"
        ) from None


def _array(name, entries, shape, kind, where):
    filled = numpy.full(shape, None, dtype=object)
    for index, words in entries:
        values = [_convert(word, kind, name, where) for word in words]
        key = tuple(slice(None) if part in (":", "") else int(part) - 1 for part in index.split(",")) if index else ()
        try:
            part = filled[key] if key else filled
            if numpy.ndim(part) == 0:
                filled[key] = values[0]
                continue
            flat = numpy.full(part.size, None, dtype=object)
            flat[: len(values)] = values[: part.size]
            if len(values) > part.size:
                raise IndexError
            new = flat.reshape(part.shape, order="F")
            part[...] = numpy.where(new == None, part, new)  # noqa: E711
        except IndexError:
            raise StudyError(f"{name}({index}) holds {len(words)} values, its shape is {shape}", where=where,
                             fix="correct the index or the number of values") from None  # fmt: skip
    if name == "orientations":
        return filled
    absent = int(sum(value is None for value in filled.ravel()))
    if absent and name in ("born", "epsilon"):
        filled[filled == None] = 0.0  # noqa: E711
    elif absent:
        raise StudyError(f"{name} lacks {absent} of {filled.size} values", where=where, fix="complete CONTROL")
    return filled if kind is str else filled.astype(kind)


def _atomic_number(symbol, where):
    from ase.data import atomic_numbers

    letters = re.match(r"[A-Za-z]+", symbol)
    name = letters[0].capitalize() if letters else symbol
    if name not in atomic_numbers or atomic_numbers[name] == 0:
        raise StudyError(f"unknown element {symbol!r}", where=where, fix="use chemical symbols in elements")
    return atomic_numbers[name]


def _masses(numbers, types, flags, masses, variances, where):
    if flags["autoisotopes"]:
        return numpy.array([natural_isotopes(number)[0] for number in numbers]), None
    if masses is None or (variances is None and flags["isotopes"]):
        raise StudyError("autoisotopes is off, but masses or gfactors are missing", where=where,
                         fix="add masses and gfactors, or set autoisotopes=.TRUE.")  # fmt: skip
    return masses[types], None if variances is None else variances[types]


def _temperatures(scalar, entries, where):
    if "t" in entries:
        temperatures = (scalar("t"),)
    elif {"t_min", "t_max", "t_step"} <= set(entries):
        low, high, step = scalar("t_min"), scalar("t_max"), scalar("t_step")
        if step <= 0 or high < low:
            raise StudyError(f"temperatures {low} to {high} K in steps of {step}", where=where, fix="correct T_step")
        count = int(numpy.ceil((high - low) / step - 1e-9)) + 1
        temperatures = tuple(min(low + k * step, high) for k in range(count))
    else:
        raise StudyError("no temperature", where=where, fix="add T, or T_min, T_max and T_step")
    return temperatures


def _join(values):
    return " ".join(f"{value:.12g}" for value in values)


def _logical(value):
    return ".TRUE." if value else ".FALSE."
