"""Every figure of a small study, of a tiny one, and what a journal would ask of them."""

import importlib
import inspect
from pathlib import Path
from types import SimpleNamespace

import numpy
import pandas
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from phonoscreen.figures import style
from tests.small_study import FIGURE_INPUTS, draw_figure, tabulate, write_small_study

NAMES = {"reference": "universal potential SevenNet 7net-0", "cohp_engine": "GFN1-xTB, tblite", "temperature_k": 300}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    results = write_small_study(tmp_path_factory.mktemp("figures"))
    return results, tabulate(results)


def draw(name, tables):
    function = importlib.import_module(f"phonoscreen.figures.{name}").draw
    options = {key: value for key, value in NAMES.items() if key in inspect.signature(function).parameters}
    return function(*(tables[table] for table in FIGURE_INPUTS[name]), **options)


def texts(figure):
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


@pytest.mark.parametrize("name", FIGURE_INPUTS)
def test_figure_is_readable_and_says_what_it_shows(study, name):
    figure, caption = draw(name, study[1])
    assert min(text.get_fontsize() for text in texts(figure)) >= 7
    assert figure.get_figwidth() <= style.DOUBLE + 1e-9
    assert NAMES["reference"] in caption and "DFT" not in caption
    assert any(character.isdigit() for character in caption.replace(NAMES["reference"], "").split("Figure ", 1)[1][3:])
    style.plt.close(figure)


@pytest.mark.parametrize("name", FIGURE_INPUTS)
def test_figure_without_any_structure_says_why(study, name):
    empty = {table: frame.iloc[:0] for table, frame in study[1].items()}
    figure, caption = draw(name, empty)
    figure.canvas.draw()
    assert caption and texts(figure)
    style.plt.close(figure)


@pytest.mark.parametrize("n_structures", [2])
def test_every_figure_of_a_tiny_study_can_be_drawn(tmp_path, n_structures):
    tables = tabulate(write_small_study(tmp_path, n_structures))
    for name in FIGURE_INPUTS:
        figure, _ = draw(name, tables)
        figure.canvas.draw()
        style.plt.close(figure)


@pytest.mark.parametrize("name", ["figure5", "figureS4"])
def test_files_are_complete_and_equal_in_every_run(study, name):
    first, second = (draw_figure(study[0], name, folder) for folder in ("figures", "again"))
    for key, magic in {"pdf": b"%PDF", "png": b"\x89PNG", "caption": b"**Figure"}.items():
        content = Path(first[key]).read_bytes()
        assert content.startswith(magic) and content == Path(second[key]).read_bytes()
    assert b"CreationDate" not in Path(first["pdf"]).read_bytes()
    assert not list(Path(first["pdf"]).parent.glob("*.partial"))


@pytest.mark.parametrize(("low", "high"), [(0.3, 4), (1e-5, 10), (2e-4, 9e-4)])
def test_logarithmic_axes_have_labels(low, high):
    figure, axes = style.new_figure(style.SINGLE, 60)
    style.diagonal(axes[0, 0], [low, high], log=True)
    figure.canvas.draw()
    ends = axes[0, 0].get_xlim()
    shown = [tick for tick in axes[0, 0].xaxis.get_majorticklocs() if ends[0] <= tick <= ends[1]]
    assert len(shown) >= 2
    style.plt.close(figure)


def test_formula_has_its_numbers_as_subscripts():
    assert style.formula("KIrCs2Cl6") == "KIrCs$_{2}$Cl$_{6}$"


def test_space_groups_differ_in_colour_and_in_marker():
    colours, markers = zip(*style.SPACE_GROUP.values())
    assert len(set(colours)) == len(set(markers)) == 4


def test_agreement_panel_has_equal_axes():
    figure, axes = style.new_figure(style.SINGLE, 60)
    style.diagonal(axes[0, 0], numpy.array([2.0, 5.0]))
    assert axes[0, 0].get_xlim() == axes[0, 0].get_ylim()
    style.plt.close(figure)


def test_figure_at_the_papers_scale_stays_small(study, tmp_path):
    n, rng = 77091, numpy.random.default_rng(0)
    rows = study[1]["transport"].query("status == 'ok' and part != 'training'").iloc[rng.integers(0, 20, n)]
    pieces = []
    for source in ("reference", "predicted"):
        kappa = 10 ** rng.normal(0, 0.7, n)
        values = {"kappa_p_w_per_m_k": kappa, "msd_max_angstrom2": 0.05 * kappa**-0.4 * 10 ** rng.normal(0, 0.1, n)}
        ids = [f"s{number:06d}" for number in range(n)]
        pieces.append(rows.assign(structure_id=ids, source=source, **values))
    figure, caption = draw("figure4", {"transport": pandas.concat(pieces)})
    figure.savefig(tmp_path / "figure4.pdf", dpi=300)
    assert "77,091" in caption and (tmp_path / "figure4.pdf").stat().st_size < 2e6
    style.plt.close(figure)


def test_a_footnote_stands_inside_the_figure_and_ends_the_caption(tmp_path):
    figure, axes = style.new_figure(style.SINGLE, 60)
    axes[0, 0].set_xlabel("x")
    words = "Out of date below this: " + "members of the committee (training.epochs); " * 3
    output = SimpleNamespace(**{name: tmp_path / f"figure.{name}" for name in ("pdf", "png", "caption")})
    style.save(figure, "**Figure 4.** Shown.", output, words.strip())
    assert output.caption.read_text() == f"**Figure 4.** Shown. {words.strip()}\n"
    (footnote,) = (text for text in figure.findobj(style.plt.Text) if text.get_text().startswith("Out of date"))
    assert " ".join(footnote.get_text().split()) == words.strip()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    place, label = (text.get_window_extent(renderer) for text in (footnote, axes[0, 0].xaxis.label))
    assert place.x0 >= 0 and place.x1 <= figure.bbox.width and 0 <= place.y0 and place.y1 <= label.y0
