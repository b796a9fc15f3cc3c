"""What is claimed of the gradient noise of public networks, where, and with which tolerance."""

import json

import numpy as np
import xarray as xr

from sgdnoise.core import Estimate
from sgdnoise.lab import (
    Table,
    Verdict,
    estimate_in,
    prediction_if,
    rivals_of_effect,
    settings_of,
)

TITLE = "Gradient noise of public networks that were trained on GPUs"
LEAD = (
    "Public ResNets with frozen batch norm see training photographs of CIFAR-10 and their labels. "
    "These photographs are the population, from which batches are drawn without replacement; C is "
    "the covariance of their gradients and F the Fisher information.",
    "Labels that the network draws itself give F on average (to 3%, which is for the draws). The "
    "critical batch of McCandlish et al. (2018), Tr(HC) / gᵀHg, is claimed to 15% where one exact "
    "step gains what the quadratic predicts to a tenth. Steps have half of the best rate of their "
    "batch, or all of it.",
    "The excess kurtosis of a batch follows exactly from that of single examples, also in a finite "
    "population, and is claimed to 10%, which is for the draws; so is that of single examples from "
    "the norms of their gradients alone.",
)
FISHER = 0.03  # relative; the identity is exact
REGIME = 0.1  # relative difference of the gain of an exact step from that of a quadratic
CRITICAL = 0.15  # relative, of the critical batch where it is claimed
MOMENT = 0.1  # relative, of a kurtosis
STAGE_BATCH = 16  # at which the kurtosis of each stage is claimed


def verdicts(results: xr.Dataset) -> list[Verdict]:
    """The rows of each network: labels, steps, kurtosis, and what is observed."""
    rows, draws = [], json.loads(results.attrs.get("arguments", "{}")).get("draws")
    for depth, data in settings_of(results, "depth"):
        name = f"ResNet-{depth}"
        rows += [*_labels(data, name), *_given(data, name, draws)]
        rows += [*_steps(data, name), *_kurtosis(data, name)]
        rows += _observed(data, name)
    return rows


TEXTS = {
    "trace": "Tr A / Tr F",
    "product": "<A, F> / |F|²",
    "distance": "|A − F|² / predicted",
    "along": "A along five directions / Gauss-Newton",
}


def _labels(data, name):
    """Second moments A of gradients under labels that the network draws."""
    rows = []
    others = {key: ("the labels", float(data[f"given_{key}"])) for key in ("trace", "product")}
    for key, text in TEXTS.items():
        rivals = rivals_of_effect(1.0, "noise", *[others[key]] if key in others else [])
        claim = f"{name}, drawn labels: {text}"
        measured = estimate_in(data, f"drawn_{key}")
        rows.append(Verdict(claim, 1.0, measured, "prediction", FISHER, rivals))
    for stage, at in settings_of(data, "stage"):
        claim = f"{name}, drawn labels, {stage}: Tr A / Tr F"
        rivals = rivals_of_effect(1.0, "noise")
        measured = estimate_in(at, "drawn_stage")
        rows.append(Verdict(claim, 1.0, measured, "prediction", FISHER, rivals))
    return rows


def _given(data, name, draws):
    """The labels of the photographs; the error is the scatter of a draw from the network."""
    rows = []
    for key in ("trace", "product"):
        claim = f"{name}, the labels: {TEXTS[key]}"
        scatter = float(data[f"drawn_{key}_stderr"]) * draws**0.5 if draws else np.nan
        measured = Estimate(float(data[f"given_{key}"]), scatter)
        rows.append(Verdict(claim, 1.0, measured, "contrast", FISHER))
    return rows


def quadratic_gain(data: xr.Dataset, share: float) -> float:
    """The gain of an exact step at a share of the best rate, for a quadratic loss."""
    return float((2 * share - share**2) * data.square**2 / (2 * data.curvature_along))


def critical_batches(data: xr.Dataset, share: float) -> xr.Dataset:
    """The critical batch that the gain of each batch size gives, with its error."""
    at = data.sel(share=share)
    fraction = (data.examples - data.batch) / (data.examples - 1) / data.batch
    value = (at.exact / at.gain - 1) / fraction
    error = at.exact / at.gain**2 * at.gain_stderr / fraction
    return xr.Dataset({"critical": value, "critical_stderr": error})


def combined(data: xr.Dataset, share: float) -> Estimate:
    """The critical batch of all batch sizes together, weighted by their errors."""
    single = critical_batches(data, share)
    weights = (1 / single.critical_stderr**2).fillna(0)
    value = float((weights * single.critical.fillna(0)).sum() / weights.sum())
    return Estimate(value, float(weights.sum()) ** -0.5)


def _steps(data, name):
    rows = []
    scale, simple = float(data.hessian_scale), float(data.simple)
    for share in data.share.values.tolist():
        text = f"{name}, {share:g} of the best rate:"
        ratio = float(data.exact.sel(share=share)) / quadratic_gain(data, share)
        kind = prediction_if(abs(ratio - 1) <= REGIME)
        measured = combined(data, share)
        error = np.hypot(measured.stderr, float(data.hessian_scale_stderr))
        measured = Estimate(measured.value / scale, error / scale)
        rivals = rivals_of_effect(1.0, "noise", ("simple scale Tr C / |g|²", simple / scale))
        claim = f"{text} critical batch / predicted"
        rows.append(Verdict(claim, 1.0, measured, kind, CRITICAL, rivals))
        claim = f"{text} critical batch / simple scale"
        beside = measured * (scale / simple)
        rows.append(Verdict(claim, 1.0, beside, "contrast", CRITICAL))
        claim = f"{text} gain of an exact step / that of a quadratic"
        rows.append(Verdict(claim, 1.0, Estimate(ratio, 0.0), "observation"))
    return rows


def _kurtosis(data, name):
    rows = []
    norms, single = float(data.kurtosis_norms), float(data.kurtosis_single)
    claim = f"{name}: kurtosis of single examples, from norms"
    rivals = rivals_of_effect(norms, "kurtosis")
    measured = estimate_in(data, "kurtosis_pooled")
    rows.append(Verdict(claim, norms, measured, "prediction", MOMENT * norms, rivals))
    for batch, at in settings_of(data, "batch"):
        if np.isfinite(float(at.kurtosis_predicted)):
            label = f"{name}, batch {batch}: kurtosis"
            rows.append(_of_batch(label, at, "kurtosis", single / batch))
    for stage, at in settings_of(data.sel(batch=STAGE_BATCH), "stage"):
        label = f"{name}, {stage}, batch {STAGE_BATCH}: kurtosis"
        alone = float(at.stage_kurtosis_single) / STAGE_BATCH
        rows.append(_of_batch(label, at, "stage_kurtosis", alone))
    return rows


def _of_batch(label, at, name, with_replacement):
    predicted = float(at[f"{name}_predicted"])
    measured = estimate_in(at, f"{name}_measured")
    rivals = rivals_of_effect(predicted, "kurtosis", ("with replacement", with_replacement))
    return Verdict(label, predicted, measured, "prediction", MOMENT * abs(predicted), rivals)


def _observed(data, name):
    """Numbers without a claim."""

    def row(text, value, compared=1.0, error=0.0):
        return Verdict(f"{name}: {text}", compared, Estimate(float(value), error), "observation")

    cosine = {key: data[f"{key}_cosine"] for key in ("hessian", "gauss_newton")}
    exponent = {key: estimate_in(data, f"{key}_exponent") for key in cosine}
    return [
        row("accuracy on these photographs", data.accuracy),
        row(
            "participation ratio of C, beside that of F",
            data.participation,
            float(data.fisher_participation),
        ),
        row("cosine of C and H", cosine["hessian"]),
        row("cosine of C and Gauss-Newton", cosine["gauss_newton"]),
        row("exponent of C against H", exponent["hessian"].value, 1.0, exponent["hessian"].stderr),
        row("critical batch by Gauss-Newton / by H", data.gauss_newton_scale / data.hessian_scale),
        row(
            "Tr A / Tr F of calibrated labels, beside the labels",
            data.calibrated_trace,
            float(data.given_trace),
        ),
        row("cosine of A of the labels and F", data.given_cosine),
    ]


def tables(results: xr.Dataset) -> list[Table]:
    """Scales, and the noise of each stage."""
    scales, stages = [], []
    for depth, data in settings_of(results, "depth"):
        name = f"ResNet-{depth}"
        scales.append(
            (
                name,
                f"{int(data.examples)}",
                f"{float(data.loss):.3f}",
                f"{float(data.square) ** 0.5:.2f}",
                f"{float(data.simple):.1f}",
                f"{float(data.simple_low):.0f} to {float(data.simple_high):.0f}",
                f"{float(data.hessian_scale):.1f}",
                f"{float(data.gauss_newton_scale):.1f}",
                *(f"{combined(data, share)}" for share in data.share.values.tolist()),
                f"{float(data.temperature):.2f}",
            )
        )
        total = float(data.stage_trace.sum())
        for stage, at in settings_of(data, "stage"):
            share, alone = float(at.stage_trace) / total, float(at.stage_kurtosis_single)
            stages.append((name, stage, f"{100 * share:.1f}%", f"{alone:.1f}"))
    shares = [f"measured at {share:g} of the rate" for share in results.share.values.tolist()]
    headings = (
        *("network", "photographs", "loss", "|g|", "Tr C / |g|²", "95% for others"),
        *("Tr(HC) / gᵀHg", "by Gauss-Newton", *shares, "temperature"),
    )
    caption = "Critical batches, in examples, and the temperature that calibrates the labels"
    layered = ("network", "weights", "share of Tr C", "kurtosis of one example")
    return [
        Table(caption, headings, scales),
        Table("Noise by stage, batch 1", layered, stages),
    ]
