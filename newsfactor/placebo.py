"""What a figure would be if the factor knew nothing: the same panel with its names exchanged or its dates shifted.

A mean over days of a sum over names of weight times outcome is bilinear, so that one Fourier transform gives it for every
cyclic shift at once. Names are put in a random order and shifted along it: one exchange for the whole sample, so that
whatever hangs together in time still does. Dates are shifted on a ring, so that the names keep what they are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.fft

from newsfactor.parallel import count_processors
from newsfactor.resampling import placebo_p

LEAST_DRAWS = 1000


class Placebo(NamedTuple):
    """A figure beside the same figure of the placebos: its p, their central 95 % and their number."""

    observed: float
    p: float
    low: float
    high: float
    draws: int


class Spectra(NamedTuple):
    """An array of sessions × names, transformed along its names in each random order, and along its dates."""

    values: np.ndarray
    names: list[np.ndarray]
    dates: np.ndarray


def draw_orders(count: int, *, seed: int = 0) -> list[np.ndarray]:
    """Random orders of the names, as many as make a thousand shifts."""
    rng = np.random.default_rng(seed)
    return [rng.permutation(count) for _ in range(-(-LEAST_DRAWS // max(count - 1, 1)))]


def transform(values: np.ndarray, orders: list[np.ndarray]) -> Spectra:
    """Transform weights or outcomes; cells without a value count as zero."""
    single = np.nan_to_num(values.astype(np.float32))
    workers = count_processors()
    names = [scipy.fft.rfft(single[:, order], axis=1, workers=workers) for order in orders]
    return Spectra(single, names, scipy.fft.rfft(single, axis=0, workers=workers))


def exchange_names(weights: Spectra, outcomes: Spectra) -> Placebo:
    """Against every cyclic shift of the names in each order."""
    shifted = [
        scipy.fft.irfft(np.einsum("tk,tk->k", weight.conj(), outcome), n=weights.values.shape[1])[1:]
        for weight, outcome in zip(weights.names, outcomes.names, strict=True)
    ]
    return _compare(weights, outcomes, np.concatenate(shifted))


def shift_dates(weights: Spectra, outcomes: Spectra, *, least: int) -> Placebo:
    """Against every shift of the dates on a ring by at least ``least`` sessions either way."""
    figures = scipy.fft.irfft(np.einsum("kn,kn->k", weights.dates.conj(), outcomes.dates), n=len(weights.values))
    return _compare(weights, outcomes, figures[least : len(figures) - least + 1])


def _compare(weights: Spectra, outcomes: Spectra, figures: np.ndarray) -> Placebo:
    """As a mean over the days that have both weights and outcomes."""
    days = int((weights.values.any(axis=1) & outcomes.values.any(axis=1)).sum())
    observed = float(np.einsum("tn,tn->", weights.values, outcomes.values))
    if not days or not len(figures):
        return Placebo(observed / days if days else np.nan, np.nan, np.nan, np.nan, 0)
    low, high = np.quantile(figures, [0.025, 0.975]) / days
    return Placebo(observed / days, float(placebo_p(observed, figures)), float(low), float(high), len(figures))
