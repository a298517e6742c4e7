"""The BTE.* files of ShengBTE, so that scripts written for it read this engine's results.

Formats: manual of ShengBTE, W. Li et al., Comput. Phys. Commun. 185, 1747 (2014). Frequencies in rad/ps, velocities in
km/s, lengths in nm, rates in 1/ps, kappa in W/m/K.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
from numpy.typing import ArrayLike, NDArray

from phonoscreen.audit.atomic import written_together
from phonoscreen.audit.errors import StudyError
from phonoscreen.crystal import units
from phonoscreen.phonons import thermal
from phonoscreen.phonons.modes import broadening_steps
from phonoscreen.transport.gruneisen import mean_gruneisen, mode_gruneisen
from phonoscreen.transport.isotopes import elastic_widths

if TYPE_CHECKING:
    from phonoscreen.crystal.constants import Crystal, ThirdOrder
    from phonoscreen.phonons.modes import MeshModes
    from phonoscreen.transport.boltzmann import Populations
    from phonoscreen.transport.nanowires import Nanowires
    from phonoscreen.transport.scattering import ThreePhononRates
    from phonoscreen.transport.solve import Settings, Solution


def check_writable(folder: str | Path) -> None:
    """Raise StudyError if a folder, which need not exist yet, cannot be written: before hours of work, not after."""
    folder = Path(folder).absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise StudyError(f"{there} cannot be written", where="transport", fix="name another folder with --out")


@contextlib.contextmanager
def together(folder: str | Path) -> Iterator[Path]:
    """Folder to write into, whose files replace those of ``folder`` when the block ends without an error.

    Parameters
    ----------
    folder : made if it does not exist

    Raises
    ------
    StudyError
        If the folder cannot be written.
    """
    try:
        with written_together(folder) as staging:
            yield staging
    except OSError as error:
        raise StudyError(f"the results cannot be written to {folder}: {error}", where="transport",
                         fix="free some space, or name another folder with --out") from error  # fmt: skip


def left_over(staging: Path, folder: str | Path) -> list[str]:
    """Return the names of the BTE.* files in a folder that those in ``staging`` will not replace."""
    older = [path.relative_to(folder) for pattern in ("BTE.*", "T*K/BTE.*") for path in Path(folder).glob(pattern)]
    return [str(path) for path in sorted(older) if not (staging / path).exists()]


def write_harmonic(folder: str | Path, crystal: Crystal, modes: MeshModes, *, n_ticks: int = 100) -> None:
    """Write what the harmonic phonons give: q points, frequencies, velocities, density of states.

    Parameters
    ----------
    folder : made if it does not exist
    crystal : ``phonoscreen.crystal.constants.Crystal``
    modes : ``phonoscreen.phonons.modes.MeshModes``
    n_ticks : number of frequencies of the density of states
    """
    folder, mesh = _folder(folder), modes.mesh
    reciprocal = 20 * numpy.pi * numpy.linalg.inv(crystal.cell).T
    with open(folder / "BTE.ReciprocalLatticeVectors", "w") as stream:
        for number, vector in enumerate(reciprocal, 1):
            stream.write("".join(f"{x:20.10f}" for x in vector) + f"   # nm-1,b{number}\n")
    q = mesh.fractional
    with open(folder / "BTE.qpoints", "w") as stream:
        for k, (point, weight) in enumerate(zip(mesh.irreducible, mesh.weights, strict=True), 1):
            stream.write(f"{k:9d} {point + 1:9d} {weight:9d} " + " ".join(f"{x:20.10E}" for x in q[point]) + "\n")
    with open(folder / "BTE.qpoints_full", "w") as stream:
        for point in range(len(q)):
            label = f"{point + 1:9d} {mesh.star[point] + 1:9d} "
            stream.write(label + " ".join(f"{x:20.10E}" for x in q[point]) + "\n")
    _table(folder / "BTE.omega", modes.omega)
    _table(folder / "BTE.v", _by_band(modes.velocities) / 10)
    _table(folder / "BTE.v_full", _by_band(modes.mesh_velocities) / 10)
    _pairs(folder / "BTE.w_boundary", modes.omega, numpy.linalg.norm(modes.velocities, axis=2) / 10)
    ticks = modes.omega.max() * 1.1 * numpy.arange(1, n_ticks + 1) / n_ticks
    weights = (numpy.abs(modes.irreducible_eigenvectors) ** 2).reshape(*modes.omega.shape, -1, 3).sum(axis=3)
    widths = elastic_widths(broadening_steps(modes, 1.0))
    partial = thermal.density_of_states(modes, widths, ticks, weights)
    _table(folder / "BTE.dos", numpy.column_stack([ticks, partial.sum(axis=1)]), "{:14.5E}")
    _table(folder / "BTE.pdos", numpy.column_stack([ticks, partial]), "{:14.5E}")


def write_phase_space(
    folder: str | Path,
    crystal: Crystal,
    modes: MeshModes,
    rates: ThreePhononRates,
    isotope: NDArray,
    temperatures_k: Iterable[float],
) -> None:
    """Write what else needs no third-order constants: phase spaces, isotope rates, heat capacities, small grains.

    Parameters
    ----------
    folder : made if it does not exist
    crystal, modes : as in ``write_harmonic``
    rates : ``phonoscreen.transport.scattering.ThreePhononRates``
    isotope : (n_irr, n_band) 1/ps
    temperatures_k : kelvin
    """
    folder = _folder(folder)
    rows: dict[str, list[tuple]] = {"cvVsT": [], "KappaTensorVsT_sg": []}
    space = thermal.phase_space(rates, modes)
    for name, suffix in (("plus", "_plus"), ("minus", "_minus"), ("total", "")):
        _table(folder / f"BTE.P3{suffix}", space[name])
        total = float((space[name] * modes.mesh.weights[:, None]).sum())
        (folder / f"BTE.P3{suffix or ''}_total").write_text(f"{total:24.16E}\n")
    _pairs(folder / "BTE.w_isotopic", modes.omega, isotope)
    for t, temperature in enumerate(temperatures_k):
        inner = _folder(folder / f"T{temperature:g}K")
        heat = thermal.heat_capacity(modes, crystal.volume, temperature)
        grain = _small_grain(modes, crystal.volume, temperature)
        rows["cvVsT"].append((temperature, heat))
        rows["KappaTensorVsT_sg"].append((temperature, *grain.ravel()))
        (inner / "BTE.cv").write_text(f"{heat:24.14f}\n")
        _table(inner / "BTE.kappa_sg", grain.reshape(1, 9), "{:14.5E}")
        weighted = rates.weighted_phase_space[t]
        for suffix, values in (("_plus", weighted[..., 0]), ("_minus", weighted[..., 1]), ("", weighted.sum(axis=2))):
            _pairs(inner / f"BTE.WP3{suffix}", modes.omega, values, "{:12.5E}")
    _write_rows(folder, rows)


def write_anharmonic(
    folder: str | Path,
    crystal: Crystal,
    third: ThirdOrder,
    solution: Solution,
    settings: Settings,
    *,
    mean_free_paths_nm: NDArray,
    n_ticks: int = 100,
) -> None:
    """Write rates, Grueneisen parameters and conductivities.

    Parameters
    ----------
    folder : made if it does not exist
    crystal, third : as in ``phonoscreen.transport.solve.solve``
    solution : ``phonoscreen.transport.solve.Solution``
    settings : ``phonoscreen.transport.solve.Settings`` it was made with
    mean_free_paths_nm : (n,) ticks of the cumulative conductivity
    n_ticks : number of frequencies of the cumulative conductivity
    """
    folder, modes, temperatures = _folder(folder), solution.modes, settings.temperatures_k
    gruneisen = mode_gruneisen(crystal, third, modes)
    _table(folder / "BTE.gruneisen", gruneisen)
    rows: dict[str, list[tuple]] = {
        "gruneisenVsT_total": [], "KappaTensorVsT_RTA": [], "KappaTensorVsT_CONV": [], "KappaTensorVsT_coherences": [],
    }  # fmt: skip
    ticks = modes.omega.max() * 1.1 * numpy.arange(1, n_ticks + 1) / n_ticks
    for t, temperature in enumerate(temperatures):
        rows["gruneisenVsT_total"].append((temperature, mean_gruneisen(gruneisen, modes, temperature)))
        rows["KappaTensorVsT_RTA"].append((temperature, *solution.rta[t].kappa.ravel()))
        rows["KappaTensorVsT_coherences"].append((temperature, *solution.coherence[t].ravel()))
        if solution.full:
            full = solution.full[t]
            rows["KappaTensorVsT_CONV"].append((temperature, *full.kappa.ravel(), full.iterations))
        _write_temperature(folder / f"T{temperature:g}K", crystal, solution, t, temperature,
                           rows["gruneisenVsT_total"][-1][1], mean_free_paths_nm, ticks)  # fmt: skip
    _write_rows(folder, rows)


def write_nanowires(
    folder: str | Path, wires: Nanowires, conductivities: Iterable[NDArray], settings: Settings
) -> None:
    """Write the conductivities of nanowires: a file for each direction, a row for each diameter.

    With the full solution they are lower bounds, named so, because the relaxation times of the bulk enter.

    Parameters
    ----------
    folder : made if it does not exist
    wires : ``phonoscreen.transport.nanowires.Nanowires``
    conductivities : list over temperatures of (n_direction, n_diameter, n_band) W/m/K
    settings : ``phonoscreen.transport.solve.Settings`` of the bulk
    """
    for temperature, directions in zip(settings.temperatures_k, conductivities, strict=True):
        inner = _folder(Path(folder) / f"T{temperature:g}K")
        for number, bands in enumerate(directions, 1):
            rows = numpy.column_stack([wires.diameters_nm, bands, bands.sum(axis=1)])
            for name in [f"kappa_nw_{number}_lower"] + ([] if settings.full_solution else [f"kappa_nw_{number}"]):
                _table(inner / f"BTE.{name}", rows)


def _write_rows(folder, rows):
    """Write the tables over temperature that are not empty."""
    for name, table in rows.items():
        if table:
            with open(folder / f"BTE.{name}", "w") as stream:
                for row in table:
                    last = f"{row[-1]:6d}" if name.endswith("CONV") else f"{row[-1]:14.5E}"
                    stream.write(f"{row[0]:7.1f}" + "".join(f"{x:14.5E}" for x in row[1:-1]) + last + "\n")


def _write_temperature(folder, crystal, solution, t, temperature, gruneisen, lengths, ticks):
    folder, modes, rates = _folder(folder), solution.modes, solution.rates
    best = solution.full[t] if solution.full else solution.rta[t]
    (folder / "BTE.gruneisen_total").write_text(f"{gruneisen:24.16f}\n")
    absorption, emission = rates.absorption[t], rates.emission[t]
    for name, values in {
        "w_anharmonic_plus": absorption, "w_anharmonic_minus": emission, "w_anharmonic": absorption + emission,
        "w": solution.linewidth[t], "w_final": _final_rates(modes, best),
    }.items():  # fmt: skip
        _pairs(folder / f"BTE.{name}", modes.omega, values)
    steps = numpy.arange(len(best.history))[:, None]
    tensors = best.history.swapaxes(2, 3).reshape(len(best.history), -1)
    totals = best.history.sum(axis=1)
    _steps(folder / "BTE.kappa", steps, tensors)
    _steps(folder / "BTE.kappa_tensor", steps, totals.reshape(len(totals), 9))
    _steps(folder / "BTE.kappa_scalar", steps, numpy.trace(totals, axis1=1, axis2=2)[:, None] / 3)
    parts, paths = cumulative_parts(modes, best, crystal.volume, temperature)
    for name, axis, key in (
        ("cumulative_kappa", lengths, paths), ("cumulative_kappaVsOmega", ticks, modes.omega)
    ):  # fmt: skip
        curve = cumulative(parts, key, axis)
        _table(folder / f"BTE.{name}_tensor", numpy.column_stack([axis, curve.reshape(len(axis), 9)]))
        if name == "cumulative_kappa":
            trace = numpy.trace(curve, axis1=1, axis2=2) / 3
            _table(folder / f"BTE.{name}_scalar", numpy.column_stack([axis, trace]))
    _table(folder / "BTE.kappa_coherences", solution.coherence[t].reshape(1, 9), "{:14.5E}")


def cumulative_parts(
    modes: MeshModes, populations: Populations, volume: float, temperature_k: float
) -> tuple[NDArray, NDArray]:
    """Return what each mode adds to the conductivity, and its mean free path along its velocity.

    Returns
    -------
    parts : (n_irr, n_band, 3, 3) W/m/K, weights included, symmetrised; they sum to the conductivity
    paths : (n_irr, n_band) nm, negative where the solution runs against the velocity
    """
    from phonoscreen.transport.boltzmann import symmetrise

    heat = units.mode_heat_capacity(modes.omega, temperature_k) * modes.mesh.weights[:, None]
    field = populations.mean_free_path
    parts = heat[:, :, None, None] * modes.velocities[..., :, None] * field[..., None, :]
    parts = symmetrise(parts * (1e22 / (volume * len(modes.mesh.points))), modes.mesh)
    missing = populations.kappa_modes - numpy.trace(parts, axis1=2, axis2=3) / 3
    parts = parts + missing[:, :, None, None] * numpy.eye(3)
    speed = numpy.linalg.norm(modes.velocities, axis=2)
    along = (modes.velocities * field).sum(axis=2)
    return parts, numpy.divide(along, speed, out=numpy.zeros_like(along), where=speed > 0) / 10


def cumulative(parts: NDArray, key: NDArray, ticks: ArrayLike) -> NDArray:
    """Return the sum of tensors whose key is at or below each tick: (n, 3, 3)."""
    order = numpy.argsort(key, axis=None, kind="stable")
    sums = numpy.concatenate([numpy.zeros((1, 3, 3)), numpy.cumsum(parts.reshape(-1, 3, 3)[order], axis=0)])
    return sums[numpy.searchsorted(key.ravel()[order], ticks, side="right")]


def _small_grain(modes, volume, temperature_k):
    from phonoscreen.transport.boltzmann import symmetrise

    heat = units.mode_heat_capacity(modes.omega, temperature_k) * modes.mesh.weights[:, None]
    speed = numpy.linalg.norm(modes.velocities, axis=2)
    scale = numpy.divide(heat, speed, out=numpy.zeros_like(heat), where=speed > 0)
    total = numpy.einsum("qs,qsx,qsy->xy", scale, modes.velocities, modes.velocities)
    return symmetrise(total, modes.mesh) * (1e22 / (volume * len(modes.mesh.points))) * 10


def _final_rates(modes, populations):
    along = (modes.velocities * populations.mean_free_path).sum(axis=2)
    square = (modes.velocities**2).sum(axis=2)
    with numpy.errstate(divide="ignore", invalid="ignore"):
        return square / along


def _folder(folder: str | Path) -> Path:
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _by_band(vectors):
    return vectors.swapaxes(0, 1).reshape(-1, vectors.shape[-1])


def _table(path, values, item="{:20.10E}"):
    with open(path, "w") as stream:
        for row in values:
            stream.write(" ".join(item.format(x) for x in row) + "\n")


def _pairs(path, omega, values, item="{:20.10E}"):
    _table(path, numpy.column_stack([omega.T.ravel(), values.T.ravel()]), item)


def _steps(path, steps, values):
    with open(path, "w") as stream:
        for (step,), row in zip(steps, values, strict=True):
            stream.write(f"{step:9d}" + "".join(f"{x:20.10E}" for x in row) + "\n")
