"""One self-contained page: verdicts, pictures, numbers, and where they come from."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sgdnoise.core._arguments import checked
from sgdnoise.lab._power import power_text
from sgdnoise.lab._verdict import HEADINGS, Verdict, row


class Table(NamedTuple):
    """Rows of text under headings, with a sentence that says what they are.

    Example:
        >>> Table("Squares of n.", ("n", "square"), [("1", "1"), ("2", "4")]).headings
        ('n', 'square')
    """

    caption: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


class Section(NamedTuple):
    """The results of one study.

    lead: sentences at its head.  figures: (caption, <svg> element).  origin: the provenance.
    """

    title: str
    lead: Sequence[str]
    verdicts: Sequence[Verdict]
    figures: Sequence[tuple[str, str]]
    tables: Sequence[Table]
    origin: dict


_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #1a1a1a; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.wide { overflow-x: auto; margin: 1.2rem 0; }
table { border-collapse: collapse; font-size: .85rem; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }
th, td + td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
caption { text-align: left; padding-bottom: .4rem; color: #444; }
.holds, .differs { color: #00694d; font-weight: 600; }
.fails, .agrees { color: #a33c00; font-weight: 600; }
.undecided { color: #555; font-weight: 600; } .outside td, .observation td { color: #555; }
svg { max-width: 100%; height: auto; } figure { margin: 1rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: .85rem; }
dt { color: #555; } dd { margin: 0; overflow-wrap: anywhere; }
</style>
</head>
<body>
{% for section in sections %}
<h1>{{ section.title }}</h1>
{% for sentence in section.lead %}
<p>{{ sentence }}</p>
{% endfor %}
<h2>Predicted and measured</h2>
<div class="wide"><table>
<caption>Errors are standard errors over seeds. A prediction holds when its deviation and three
standard errors together are within the tolerance of theory. It fails when its deviation less three
standard errors is beyond it. Otherwise it is undecided. A contrast is the number of a rival or a
control, and should differ. Predictions outside of their regime and observations are not
judged.</caption>
<tr>{% for heading in headings %}<th>{{ heading }}</th>{% endfor %}</tr>
{% for verdict in section.verdicts %}
{% set cells = row(verdict) %}
<tr class="{{ verdict.kind }}">
{% for cell in cells[:-1] %}<td>{{ cell }}</td>{% endfor %}
<td class="{{ verdict.outcome }}">{{ cells[-1] }}</td></tr>
{% endfor %}
</table></div>
{% if power_text(section.verdicts) %}<p>{{ power_text(section.verdicts) }}</p>{% endif %}
{% for caption, drawing in section.figures %}
<figure>{{ drawing | safe }}<figcaption>{{ caption }}</figcaption></figure>
{% endfor %}
{% for table in section.tables %}
<div class="wide"><table><caption>{{ table.caption }}</caption>
<tr>{% for heading in table.headings %}<th>{{ heading }}</th>{% endfor %}</tr>
{% for cells in table.rows %}
<tr>{% for cell in cells %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</table></div>
{% endfor %}
<h2>Where this comes from</h2>
<dl>
{% for name, value in section.origin.items() %}<dt>{{ name }}</dt><dd>{{ value }}</dd>
{% endfor %}</dl>
{% endfor %}
</body>
</html>
"""


@checked
def report_html(title: str, sections: Iterable[Section]) -> str:
    """The page as text: it has no script, needs no network, and its drawings are inline.

    Raises ValueError for sections of another kind.

    Example:
        >>> page = report_html("My studies", [])
        >>> page[:15], "<title>My studies</title>" in page
        ('<!doctype html>', True)
    """
    helpers = {"headings": HEADINGS, "row": row, "power_text": power_text}
    sections = list(sections)
    if not all(isinstance(section, Section) for section in sections):
        raise ValueError("the sections of a report are the results of studies, each a Section")
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_PAGE).render(title=title, sections=sections, **helpers)
