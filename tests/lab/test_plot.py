"""Figures: fonts are embedded as TrueType, text is text, bands are two standard errors."""

import re
import zlib

import numpy as np
from matplotlib.figure import Figure

from sgdnoise.core import Estimate
from sgdnoise.lab import COLOURS, band, figure_svg, save_figure


def figure():
    drawn = Figure(figsize=(3, 2))
    ax = drawn.add_subplot()
    band(ax, [0, 1], Estimate(np.asarray([1.0, 2.0]), np.asarray([0.1, 0.2])), color="#0072B2")
    ax.set_xlabel("steps")
    return drawn


def test_a_pdf_embeds_truetype_fonts_and_a_png_is_one(tmp_path):
    paths = save_figure(figure(), tmp_path / "picture")
    assert [p.name for p in paths] == ["picture.pdf", "picture.png"]
    pdf = paths[0].read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert paths[1].read_bytes().startswith(b"\x89PNG")


def test_the_same_figure_gives_the_same_pdf(tmp_path):
    first, second = (save_figure(figure(), tmp_path / name)[0].read_bytes() for name in "ab")
    assert zlib.crc32(first) == zlib.crc32(second)


def test_an_svg_keeps_its_text_and_needs_nothing_from_outside():
    text = figure_svg(figure())
    assert text.startswith("<svg")
    assert "steps" in text
    assert not re.findall(r'(?:href|src)="(?!#)', text)


def test_a_band_is_two_standard_errors_either_side():
    ax = figure().axes[0]
    edges = ax.collections[0].get_paths()[0].vertices
    at_one = edges[edges[:, 0] == 1][:, 1]
    np.testing.assert_allclose([at_one.min(), at_one.max()], [1.6, 2.4], rtol=1e-12)


def test_no_two_names_share_a_colour():
    assert len(set(COLOURS.values())) == len(COLOURS)
