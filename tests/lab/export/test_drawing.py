"""Figures that print: their size, their fonts, their bytes."""

import os
import re
import subprocess
import sys

import matplotlib
import numpy as np
import pytest

from msgd.lab.export.drawing import HANDLE, LETTER, content, draw, legend_columns, shortened, style, title

HOSTILE = "$\\frac{1}$ --><script>alert(1)</script> & 中 %s"


def paint(axes, points):
    axes.plot([0, 1], [1, 2], label="line")
    axes.set_xlabel(title(HOSTILE, 2 * points))


def made(form, **options):
    with style():
        return content(draw(paint, **{"width": 85.0, **options}), form)


@pytest.mark.parametrize("form", ["svg", "pdf", "png"])
def test_the_same_bytes_each_time_and_no_dates(form):
    one = made(form)
    assert one == made(form)
    assert not re.search(rb"CreationDate|<dc:date|tIME|20[2-9]\d-\d\d-\d\d", one)


def test_the_width_is_the_one_asked_for():
    root = made("svg", width=85.0).decode()
    width, height = (float(re.search(rf'{key}="([\d.]+)pt"', root)[1]) for key in ("width", "height"))
    assert width == pytest.approx(85 / 25.4 * 72, abs=1e-3)
    assert height == pytest.approx(0.75 * width, abs=1e-3)


def test_text_stays_text_and_hostile_text_is_only_text():
    svg = made("svg").decode()
    assert "--&gt;&lt;script&gt;alert(1)&lt;/script&gt; &amp; 中 %s" in svg
    assert "<script" not in svg
    assert r"$\frac{1}$" in svg  # as written, not as a formula


def test_a_pdf_embeds_its_fonts_whole():
    pdf = made("pdf")
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert b"/CIDFontType2" in pdf or b"/Subtype /TrueType" in pdf


def test_nothing_is_left_changed(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "svg")
    before = dict(matplotlib.rcParams)
    made("png")
    assert dict(matplotlib.rcParams) == before
    assert os.environ["MPLBACKEND"] == "svg"


def test_the_settings_of_the_user_do_not_matter():
    plain = made("svg")
    with matplotlib.rc_context({"lines.linewidth": 9.0, "text.usetex": True, "svg.fonttype": "path"}):
        assert made("svg") == plain


def test_a_backend_that_is_missing_does_not_matter():
    code = (
        "from msgd.lab.export.drawing import content, draw, style\n"
        "with style():\n    print(len(content(draw(lambda *_: None, width=85.0), 'svg')))\n"
        "import sys; assert 'matplotlib.pyplot' not in sys.modules"
    )
    environment = os.environ | {"MPLBACKEND": "no such backend"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 1000


def test_a_legend_fits_the_width_and_covers_no_data():
    points = 85 / 25.4 * 72
    names = [f"method-{i}" for i in range(7)]
    columns = legend_columns(names, points)
    assert columns == int(points // (8 * LETTER + HANDLE))
    with style():
        figure = draw(lambda axes, _: axes.plot(np.eye(7), label=names), width=85.0, entries=names)
        figure.draw_without_rendering()
        [legend] = figure.legends
        box, axes = legend.get_window_extent(), figure.axes[0].get_window_extent()
        assert box.y0 >= axes.y1
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1
        sizes = [text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
    assert min(sizes) >= 7


def test_long_names_keep_their_ends():
    points = 85 / 25.4 * 72
    text = "a" * 40 + "b" * 40
    short = shortened(text, points)
    assert len(short) * LETTER + HANDLE <= points
    assert re.fullmatch("a+…b+", short)
    assert shortened("sgd", points) == "sgd"
    with style():
        figure = draw(lambda axes, _: axes.plot([0], [0], label=text), width=85.0, entries=[text])
        figure.draw_without_rendering()
        assert figure.legends[0].get_window_extent().x1 <= figure.bbox.x1


def test_long_titles_take_several_lines():
    points = 150.0
    text = title("difference in test " + "t$" * 60, points)
    assert text.count("\n") >= 3
    assert text.replace("\n", "").replace(" ", "") == "differenceintest" + r"t\$" * 60
    with style():
        figure = draw(lambda axes, _: axes.set_xlabel(text), width=85.0)
        figure.draw_without_rendering()
        assert figure.axes[0].xaxis.label.get_window_extent().width <= points * figure.dpi / 72
