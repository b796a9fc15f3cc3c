"""What a run leaves behind: the result, the figures, the report, and the table of findings.md."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sgdnoise.core._files import atomic_write
from sgdnoise.lab._power import power_text
from sgdnoise.lab._report import Section, Table, report_html
from sgdnoise.lab._store import read_parts, write_parts
from sgdnoise.lab._sweep._keys import fingerprint
from sgdnoise.lab._terminal import console, show
from sgdnoise.lab._verdict import HEADINGS, exit_status, row, summary, with_verdicts

NUMBERS = {"predicted", "measured", "deviation", "allowed", "in s.e.", "in %"}
ORIGIN = (
    *("arguments", "seed", "versions", "commit", "dirty", "machine", "processor", "device"),
    *("date", "seconds", "cpu_seconds"),
)


def publish(study, results: dict[str, Any], out: Path) -> int:
    """Print the verdicts, write everything into `out`, print the paths: the exit status."""
    status = show_verdicts(study, results)
    verdicts = {label: study.parts[label].judge(data) for label, data in results.items()}
    judged = {label: with_verdicts(data, verdicts[label]) for label, data in results.items()}
    if (kept := keep_earlier(judged, out)) is not None:
        text = f"the earlier result, of other arguments, is kept as {kept}"
        console.print(text, markup=False, soft_wrap=True)
    write_parts(judged, out / "result.nc")
    paths = [*draw_results(study, results, out), report(study, results, out), out / "result.nc"]
    for path in paths:
        console.print(f"  {path}", markup=False, soft_wrap=True)
    return status


def keep_earlier(results: dict[str, Any], out: Path) -> Path | None:
    """Rename a result in `out` that has other arguments than these: its new path, or None."""
    path = out / "result.nc"
    try:
        earlier = _arguments(read_parts(path)) if path.is_file() else None
    except (OSError, ValueError):  # nothing that a study wrote
        return None
    if earlier is None or earlier == _arguments(results):
        return None
    kept = path.with_name(f"result-{fingerprint(arguments=earlier)}.nc")
    path.replace(kept)
    return kept


def _arguments(results: dict[str, Any]) -> dict[str, str]:
    return {label: str(data.attrs.get("arguments")) for label, data in results.items()}


def show_verdicts(study, results: dict[str, Any]) -> int:
    """Print the verdicts of each part and their summary: the exit status."""
    everything = []
    for label, dataset in results.items():
        study_part = study.parts[label]
        verdicts = study_part.judge(dataset)
        show(study_part.claims.TITLE, verdicts)
        if text := power_text(verdicts):
            console.print(text, markup=False)
        everything += verdicts
    console.print(summary(everything))
    return exit_status(everything)


def figures_of(study, results: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Stem, caption and figure of all parts; the figure of a part has the name of the part."""
    for label, dataset in results.items():
        for stem, (caption, figure) in study.parts[label].figure.figures(dataset).items():
            name = f"{label}_{stem}" if label and stem != "figure" else label or stem
            yield name, caption, figure


def draw_results(study, results: dict[str, Any], folder: Path) -> list[Path]:
    """Save all figures, and renew the tables of findings.md where the folder has one."""
    from sgdnoise.lab._plot import save_figure

    paths = [
        path
        for stem, _, figure in figures_of(study, results)
        for path in save_figure(figure, folder / stem)
    ]
    findings = folder / "findings.md"
    if findings.is_file():
        text = findings.read_text(encoding="utf-8")
        for label, dataset in results.items():
            text = with_table(text, label, markdown(study.parts[label], dataset))
        with atomic_write(findings) as new:
            new.write_text(text, encoding="utf-8")
        paths.append(findings)
    return paths


def with_table(text: str, label: str, table: str) -> str:
    """The text with a table between `<!-- table -->`, or `<!-- table LABEL -->`, and its end."""
    head = f"<!-- table {label} -->" if label else "<!-- table -->"
    pattern = re.compile(re.escape(head) + r".*?<!-- /table -->", re.DOTALL)
    return pattern.sub(lambda _: f"{head}\n{table}\n<!-- /table -->", text)


def markdown(part, dataset) -> str:
    """The verdicts of a part, in Markdown."""
    verdicts = part.judge(dataset)
    rule = ["---:" if heading in NUMBERS else "---" for heading in HEADINGS]
    cells = [HEADINGS, rule, *map(row, verdicts)]
    escaped = [[text.replace("|", "\\|") for text in line] for line in cells]
    table = "\n".join(f"| {' | '.join(line)} |" for line in escaped)
    text = power_text(verdicts)
    return f"{table}\n\n{text[0].upper()}{text[1:]}." if text else table


def report(study, results: dict[str, Any], folder: Path) -> Path:
    """Write the page of all parts; its path."""
    sections = [section(study.parts[label], dataset) for label, dataset in results.items()]
    with atomic_write(folder / "report.html") as new:
        title = sections[0].title if len(study.parts) == 1 else study.title
        new.write_text(report_html(title, sections), encoding="utf-8")
    return folder / "report.html"


def section(part, dataset) -> Section:
    """The section of a report on one part."""
    from sgdnoise.lab._plot import figure_svg

    drawings = [
        (caption, figure_svg(figure)) for caption, figure in part.figure.figures(dataset).values()
    ]
    tables: list[Table] = part.claims.tables(dataset)
    origin = {name: dataset.attrs[name] for name in ORIGIN if name in dataset.attrs}
    verdicts = part.judge(dataset)
    return Section(part.claims.TITLE, part.lead(dataset), verdicts, drawings, tables, origin)
