"""Tables of the study of generalisation: all that its verdicts are the signs of."""

import numpy as np

from sgdnoise.lab import Table
from simulations.generalisation import _columns as columns
from simulations.generalisation._columns import AFTER, FACTORS, SHOWN, flat
from simulations.generalisation._ranks import discordant

__all__ = ["tables"]


def tables(results) -> list[Table]:
    """Correlations, agreement by factor, shuffled labels, controls, what was reached."""
    makers = (_correlations, _alone, _shuffled, _controls, _reached)
    return [make(results) for make in makers]


def _tasks(results):
    return results.task.values.tolist()


def _pooled(tasks):
    """Each task, and all networks on the same images together."""
    kinds = dict.fromkeys(task.split()[1] for task in tasks)
    groups = {task: [task] for task in tasks}
    both = {kind: [t for t in tasks if t.split()[1] == kind] for kind in kinds}
    return groups | {f"all on {kind}": own for kind, own in both.items() if len(own) > 1}


def _correlations(results):
    rows = []
    for name, own in _pooled(_tasks(results)).items():
        for moment in AFTER:
            for estimator, short in SHOWN.items():
                of = flat(results, own, estimator=estimator, moment=moment)
                seen = flat(results, own, estimator=estimator, moment=moment, where="trained")
                found = columns.correlation(of)
                low, high = np.clip(found.interval(), -1, 1)
                against = discordant(of.dimension, of.error, of.place)
                rows.append(
                    (
                        *(name, moment, short, text(found), f"{low:+.2f} to {high:+.2f}"),
                        text(columns.correlation(of, given=of.loss)),
                        text(columns.correlation(of, given=of.shuffled)),
                        text(columns.correlation(seen)),
                        f"{against.value:.0f} ± {against.stderr:.0f}",
                    )
                )
    headings = (
        *("networks", "compared at", "dimension", "Spearman's", "95% interval", "given loss"),
        *("given shuffled share", "of images trained on", "% of pairs against"),
    )
    caption = (
        "Rank correlation of test error with the dimension of held images, errors from places "
        "drawn anew; pairs against have less dimension and more error"
    )
    return Table(caption, headings, rows)


def _alone(results):
    tasks, rows = _tasks(results), []
    for factor in (*FACTORS, "network"):
        if factor == "network" and len(tasks) < 2:
            continue
        for moment in AFTER:
            cells = [
                text(columns.agreement(results, tasks, factor, moment=moment, estimator=e, where=w))
                for w in ("held", "trained")
                for e in SHOWN
            ]
            rows.append((factor, moment, *cells))
    names = tuple(f"{short}{where}" for where in ("", ", trained on") for short in SHOWN.values())
    caption = (
        "Where one factor varies alone: share of pairs in which more dimension goes with more test "
        "error, less the share in which it goes with less"
    )
    return Table(caption, ("varied", "compared at", *names), rows)


def _shuffled(results):
    shares = sorted(set(results.shuffled.values.ravel().tolist()))
    own, rows = np.isin(results.varied.values, ("none", "shuffled")), []
    for task in _tasks(results):
        for where in results["where"].values.tolist():
            for estimator, short in SHOWN.items():
                at = results.sel(
                    task=task, moment="equal steps", where=where, estimator=estimator
                ).isel(setting=own)
                means = [float(at.dimension.where(at.shuffled == s).mean()) for s in shares]
                change = columns.rise(results, task, estimator, where)
                ratio = columns.average(change)
                last = f"{100 * np.expm1(ratio.value):+.0f} ± {100 * ratio.stderr:.0f}"
                lower = f"{100 * float((change < 0).mean()):.0f}"
                rows.append((task, where, short, *(f"{m:.2f}" for m in means), last, lower))
    caption = "Dimension after equally many steps against the share of shuffled labels, alone"
    names = tuple(f"{s:g}" for s in shares)
    return Table(
        caption,
        ("networks", "images", "dimension", *names, "all / none, %", "% of places less"),
        rows,
    )


def _controls(results):
    rows = []
    for task in _tasks(results):
        for estimator, short in SHOWN.items():
            cells = [
                text(columns.correlation(flat(results, [task], estimator=estimator, of=of)))
                for of in ("dimension", "surrogate", "input", "start")
            ]
            rows.append((task, short, *cells))
    headings = ("networks", "dimension", "last layer", "its surrogate", "input", "before training")
    caption = (
        "Rank correlation of test error after equally many steps with other dimensions: of "
        "Gaussian points of equal covariance, of the noisy images, of the network before training"
    )
    return Table(caption, headings, rows)


def _reached(results):
    rows = []
    for task in _tasks(results):
        part = results.sel(task=task)
        equal, end = (part.sel(moment=m) for m in AFTER)
        missed = 100 * float(np.isnan(equal.loss.mean("seed", skipna=False)).mean())
        rows.append(
            (
                task,
                f"{missed:.0f}",
                f"{float(equal.loss.min()):.3f} to {float(equal.loss.max()):.3f}",
                f"{float(end.loss.median()):.4f}",
                f"{columns.fitted(results, task):.3f}",
                f"{float(end.error.min()):.3f} to {float(end.error.max()):.3f}",
            )
        )
    headings = (
        *("networks", "% of settings without the equal loss", "equal loss", "median loss at last"),
        *("accuracy in training, all shuffled", "test error"),
    )
    return Table("What was reached; settings without the equal loss are left out", headings, rows)


def text(found) -> str:
    """An estimate with its error; a dash where there is none."""
    return f"{found.value:+.2f} ± {found.stderr:.2f}" if np.isfinite(found.value) else "-"
