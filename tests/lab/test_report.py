"""The report: one page that needs nothing else and escapes its input."""

import re
from dataclasses import replace

from sgdnoise.core import Estimate
from sgdnoise.lab import Table, Verdict, report_html
from sgdnoise.lab._report import Section

CLAIM = Verdict("dimension <b>follows</b>", 5.0, Estimate(5.1, 0.05), "prediction", 0.5)


def page():
    section = Section(
        "A & B",
        ["One sentence."],
        [CLAIM, replace(CLAIM, kind="outside")],
        [("what is drawn", "<svg id='drawing'></svg>")],
        [Table("numbers", ("mode", "PR"), [("label", "5 ± 1")])],
        {"seed": 3, "versions": {"numpy": "2"}},
    )
    return report_html("A & B", [section, section._replace(title="C")])


def test_the_page_needs_no_script_and_no_network():
    text = page()
    assert "<script" not in text
    assert not re.findall(r"(?:src|href)\s*=|url\(|@import", text)


def test_every_text_is_on_the_page_escaped():
    text = page()
    assert "A &amp; B" in text
    assert "dimension &lt;b&gt;follows&lt;/b&gt;" in text
    assert "<svg id='drawing'>" in text  # a drawing is ours and stays a drawing
    assert text.count('class="outside"') == 2  # in both sections
    assert "<h1>C</h1>" in text
    for words in ("One sentence.", "what is drawn", "5 ± 1", "seed", "5.100 ± 0.050", "holds"):
        assert words in text
