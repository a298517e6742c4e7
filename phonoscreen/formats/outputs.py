"""Whether the output of an electronic-structure program is complete and its electrons converged, and its settings.

ASE reads forces from runs that were cut off and from runs that stopped at their maximal number of electronic steps.
What each program says about itself in its output is read here: VASP ionic step by ionic step, the others as a whole.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ase.io import ulm
from ase.io.formats import open_with_compression

if TYPE_CHECKING:
    from pathlib import Path

HEAD_BYTES = 20_000
_ULM = "- of Ulm"
_LOGO_OF_GPAW = r"^ \|__\|\|  \| \|\|/\\\| - \d"
_TEXT_OF_GPAW = "ASE does not read the text output of this version of GPAW; give its .gpw file or a trajectory"
CONVERGE = "converge this calculation (more electronic steps, other mixing), or remove it"


@dataclass(frozen=True)
class Program:
    """What the text output of one program says.

    Parameters
    ----------
    name, format : of the program; of ASE's reader
    signature : pattern at the beginning of the file
    end : pattern that stands in every run that came to its end, or None
    unconverged : pattern of electrons that did not converge
    settings : patterns of numerical settings by name
    """

    name: str
    format: str
    signature: str
    end: str | None
    unconverged: str
    settings: dict = field(default_factory=dict)


PROGRAMS = (
    Program(
        "VASP", "vasp-out", r"^\s*vasp\.\d", r"General timing and accounting", r"hard stop encountered",
        {"ENCUT": r"ENCUT\s*=\s*([\d.]+)", "potentials": r"TITEL\s*=\s*(.+)", "GGA": r"\bGGA\s*=\s*(\S+)",
         "ISPIN": r"ISPIN\s*=\s*(\d)", "ISMEAR": r"ISMEAR\s*=\s*(-?\d+)", "LREAL": r"LREAL\s*=\s*(\S)",
         "k points": r"generate k-points for:\s+(\d+\s+\d+\s+\d+)"},
    ),
    Program(
        "Quantum ESPRESSO", "espresso-out", r"Program PWSCF", r"JOB DONE", r"convergence NOT achieved",
        {"kinetic-energy cutoff (Ry)": r"kinetic-energy cutoff\s*=\s*([\d.]+)",
         "functional": r"Exchange-correlation\s*=\s*(\S+)"},
    ),
    Program("GPAW", "gpaw-out", r"\|___\|_\|", None, r"Did not converge",
            {"functional": r"^\s*xc: (\S+)", "plane-wave cutoff (eV)": r"ecut: ([\d.]+)"}),
    Program("CP2K", "cp2k-output", r"CP2K\|", r"PROGRAM ENDED AT", r"SCF run NOT converged"),
    Program("FHI-aims", "aims-output", r"Invoking FHI-aims", r"Have a nice day",
            r"SELF-CONSISTENCY CYCLE DID NOT CONVERGE"),
    Program("ABINIT", "abinit-out", r"\.Version\s+\S+\s+of ABINIT", r"Calculation completed",
            r"was not enough SCF cycles to converge",
            {"plane-wave cutoff (hartree)": r"^\s*ecut\s+([\d.E+]+) +Hartree", "functional": r"\bixc[ =]+(-?\d+)",
             "k points": r"^\s*ngkpt\s+(\d+\s+\d+\s+\d+)"}),
    Program("CASTEP", "castep-castep", r"CASTEP version", r"Total time\s*=", r"has not reached the groundstate",
            {"functional": r"using functional\s*:\s*(.+?)\s*$",
             "plane-wave cutoff (eV)": r"plane wave basis set cut-off\s*:\s*([\d.]+)",
             "k points": r"MP grid size for SCF calculation is\s+(\d+\s+\d+\s+\d+)"}),
)  # fmt: skip

VASPRUN_SETTINGS = {
    "ENMAX": "ENCUT", "GGA": "GGA", "METAGGA": "METAGGA", "ISPIN": "ISPIN", "ISMEAR": "ISMEAR", "SIGMA": "SIGMA",
    "LREAL": "LREAL", "PREC": "PREC", "LDAU": "LDAU", "LSORBIT": "LSORBIT", "LHFCALC": "LHFCALC",
}  # fmt: skip


@dataclass
class OutputReport:
    """What an output says about itself.

    Parameters
    ----------
    program : its name, "" if the file is of no known program
    format : name of ASE's reader, None where ASE finds it by itself
    incomplete : what its end lacks, or None
    unconverged : indices of ionic steps whose electrons did not converge
    steps : number of ionic steps counted, 0 if unknown
    evidence : what shows it
    settings : values by name
    """

    program: str = ""
    format: str | None = None
    incomplete: str | None = None
    unconverged: tuple = ()
    steps: int = 0
    evidence: str = ""
    settings: dict = field(default_factory=dict)

    def problem_of(self, step: int, n_steps: int) -> tuple[str, str] | None:
        """What is wrong with one of the steps read, and the remedy; None if nothing is."""
        if self.incomplete:
            return f"{self.program} did not come to its end: {self.incomplete}", "repeat this calculation, or remove it"
        known = self.steps == n_steps
        if step in self.unconverged or (self.unconverged and not known):
            return f"its electrons did not converge: {self.evidence}", CONVERGE
        return None


def inspect_output(path: str | Path) -> OutputReport:
    """Say whether a file is the output of a finished and converged calculation.

    Parameters
    ----------
    path : file, also compressed

    Returns
    -------
    OutputReport, empty for files of other kinds
    """
    with open_with_compression(str(path), "rb") as stream:
        head = stream.read(HEAD_BYTES).decode("utf-8", "replace")
    if "<modeling>" in head:
        return _vasprun(path)
    if head.startswith(_ULM):
        return _binary(path, head)
    if re.search(_LOGO_OF_GPAW, head, re.M):
        return OutputReport("GPAW", "gpaw-out", incomplete=_TEXT_OF_GPAW)
    for program in PROGRAMS:
        if re.search(program.signature, head, re.M):
            with open_with_compression(str(path), "rb") as stream:
                return _text(program, stream.read().decode("utf-8", "replace"))
    return OutputReport()


def _binary(path, head):
    """Files of ASE's binary format: restart files of GPAW, which state settings, and trajectories."""
    if head[len(_ULM) :].startswith("ASE-Trajectory"):
        return OutputReport("ASE trajectory", "traj")
    if not head[len(_ULM) :].lower().startswith("gpaw"):
        return OutputReport()
    report = OutputReport("GPAW", "gpw")
    try:
        with ulm.open(path) as reader:
            parameters = reader.parameters.asdict()
    except Exception as error:  # a damaged file; its reader raises anything
        report.incomplete = f"its parameters cannot be read ({type(error).__name__})"
        return report
    mode, functional, grid = (parameters.get(name) or {} for name in ("mode", "xc", "kpts"))
    stated = {
        "functional": functional.get("name") if isinstance(functional, dict) else functional,
        "plane-wave cutoff (eV)": mode.get("ecut") if isinstance(mode, dict) else None,
        "k points": " ".join(map(str, grid["size"])) if isinstance(grid, dict) and "size" in grid else None,
    }
    report.settings = {name: _value([str(value)]) for name, value in stated.items() if value}
    return report


def _text(program, text):
    report = OutputReport(program.name, program.format)
    if program.end and not re.search(program.end, text[-HEAD_BYTES:]):
        report.incomplete = f"the file ends without {_words(program.end)!r}"
    found = re.search(program.unconverged, text)
    if found:
        line = text[text.rfind("\n", 0, found.start()) + 1 : text.find("\n", found.end())].strip()
        report.unconverged, report.evidence = (0,), f"the file says {line!r}"
    elif program.name == "VASP":
        _outcar_steps(report, text)
    for name, pattern in program.settings.items():
        values = re.findall(pattern, text[: 40 * HEAD_BYTES], re.M)
        if values:
            report.settings[name] = _value(values if name == "potentials" else values[:1])
    return report


def _value(texts):
    """One spelling of a setting that two kinds of files write differently."""
    words = sorted({" ".join(text.split()) for text in texts})
    try:
        return f"{float(words[0]):g}" if len(words) == 1 else " + ".join(words)
    except ValueError:
        return words[0]


def _words(pattern):
    return re.sub(r"\\s[*+]?", " ", pattern).replace("\\", "").strip()


def _outcar_steps(report, text):
    """Ionic steps of an OUTCAR without the line by which VASP says that EDIFF is reached."""
    marks = re.finditer(r"Iteration\s+(\d+)\(\s*(\d+|\*+)\)|aborting loop because EDIFF is reached", text)
    steps, reached, current = {}, set(), None
    for mark in marks:
        if mark[1]:
            current = int(mark[1])
            steps[current] = mark[2]
        elif current is not None:
            reached.add(current)
    report.steps = len(steps)
    wrong = [(place, step) for place, step in enumerate(steps) if step not in reached]
    if wrong:
        report.unconverged = tuple(place for place, _ in wrong)
        report.evidence = f"no 'EDIFF is reached' after {steps[wrong[0][1]]} electronic steps"
        if len(steps) > 1:
            report.evidence += f" in ionic steps {[step for _, step in wrong][:8]} of {len(steps)}"


def _vasprun(path):
    report, counts = OutputReport("VASP", "vasp-xml"), []
    parameters: dict[str, str] = {}
    try:
        with open_with_compression(str(path), "rb") as stream:
            for _, element in ElementTree.iterparse(stream, events=["end"]):
                if element.tag == "calculation":
                    counts.append(_electronic_steps(element))
                elif element.tag in ("parameters", "incar"):
                    parameters |= {i.get("name", "").upper(): (i.text or "").strip() for i in element.iter("i")}
                elif element.tag == "atominfo":
                    rows = element.findall("array[@name='atomtypes']/set/rc")
                    report.settings["potentials"] = _value([row[-1].text or "" for row in rows])
                elif element.tag == "generation":  # the divisions; how many points symmetry leaves may differ
                    for divisions in element.findall("v[@name='divisions']"):
                        report.settings["k points"] = _value([divisions.text or ""])
                if element.tag in ("eigenvalues", "dos", "projected"):
                    element.clear()  # large, and not needed here
    except ElementTree.ParseError as error:
        report.incomplete = f"its XML breaks off ({error})"
    except (LookupError, ValueError) as error:  # an encoding that Python or expat does not know
        report.incomplete = f"its XML cannot be decoded ({error})"
    report.settings |= {
        ours: _value([parameters[name]]) for name, ours in VASPRUN_SETTINGS.items() if parameters.get(name)
    }
    report.steps = len(counts)
    try:
        most, wanted = int(parameters["NELM"]), float(parameters["EDIFF"])
    except (KeyError, ValueError):
        return report
    wrong = [i for i, (n, change) in enumerate(counts) if n >= most and not change <= wanted]
    if wrong:
        n, change = counts[wrong[0]]
        report.unconverged = tuple(wrong)
        report.evidence = (
            f"it stopped at NELM = {most} electronic steps with a change of {change:.1e} eV, EDIFF {wanted:g}"
        )
        if len(counts) > 1:
            report.evidence += f" (ionic steps {[i + 1 for i in wrong][:8]} of {len(counts)})"
    return report


def _electronic_steps(calculation):
    """Number of electronic steps of an ionic step and the last change of the free energy, eV."""
    energies = []
    steps = calculation.findall("scstep")
    for step in steps[-2:]:
        value = step.find("energy/i[@name='e_fr_energy']")
        try:
            energies.append(float(value.text))
        except (AttributeError, TypeError, ValueError):
            energies.append(float("nan"))
    return len(steps), abs(energies[-1] - energies[0]) if len(energies) == 2 else float("nan")
