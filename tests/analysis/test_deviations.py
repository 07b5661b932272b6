"""The statistics of unusual days, beside scipy and beside what chance alone does."""

import numpy as np
import pytest
from scipy import stats

from koodrive_nb.analysis import deviations

ROWS = np.array([[3.0, 1.0], [5.0, 1.0], [4.0, 1.0], [9.0, 1.0], [4.5, np.nan], [np.nan, np.nan]])


def compare(place, others, *, noise=0.0, of_noise=False):
    return deviations.compare(
        np.array(place),
        np.full(len(place), noise),
        others,
        np.full(others.shape, noise),
        of_noise=np.full(len(place), of_noise),
    )


def test_the_scale_is_the_mad_that_scipy_gives():
    middle, scale = compare([12.0, 2.0], ROWS)
    known = ROWS[~np.isnan(ROWS[:, 0]), 0]
    assert middle[0] == np.median(known)
    # scipy divides by the quartile of the normal, which Iglewicz and Hoaglin round to 0.6745.
    assert scale[0] == pytest.approx(stats.median_abs_deviation(known, scale="normal"), rel=1e-4)
    z = (12.0 - middle[0]) / scale[0]
    assert z == pytest.approx(0.6745 * (12.0 - 4.5) / stats.median_abs_deviation(known))


def test_a_series_that_never_moved_is_measured_by_its_noise():
    middle, scale = compare([12.0, 2.0], ROWS, noise=1.0)
    assert middle[1] == 1.0
    # One draw against the median of four: 1 and pi / 2 / 4.
    assert scale[1] == pytest.approx(np.sqrt(1 + np.pi / 8))
    # Where weeks may be purged their spread tells nothing.
    spread, alone = (
        compare([12.0], ROWS[:, :1], noise=0.1, of_noise=of)[1] for of in (False, True)
    )
    assert alone[0] == pytest.approx(0.1 * np.sqrt(1 + np.pi / 10))
    assert alone[0] < spread[0]


def test_where_no_week_is_known_nothing_is_said():
    middle, scale = compare([1.0], np.full((6, 1), np.nan))
    assert np.isnan(middle).all()
    assert np.isnan(scale).all()


@pytest.mark.parametrize("rate", [4.0, 40.0, 4000.0])
def test_counts_have_a_noise_of_one_on_their_scale(rate):
    drawn = stats.poisson(rate).rvs(20_000, random_state=1).astype(float)
    assert deviations.of_counts(drawn).place.std() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(("share", "n"), [(0.05, 100), (0.5, 30), (0.02, 3000)])
def test_shares_have_the_noise_that_is_given(share, n):
    drawn = stats.binom(n, share).rvs(20_000, random_state=1).astype(float)
    measured = deviations.of_shares(drawn, np.full(len(drawn), float(n)))
    assert measured.place.std() == pytest.approx(measured.noise[0], rel=0.1)


def test_medians_have_the_noise_that_their_quartiles_tell():
    drawn = stats.lognorm(1.1, scale=75).rvs((3000, 201), random_state=1)
    low, middle, high = np.quantile(drawn, [0.25, 0.5, 0.75], axis=1)
    measured = deviations.of_medians(low, middle, high, np.full(3000, 201.0))
    assert measured.place.std() == pytest.approx(measured.noise.mean(), rel=0.05)


@pytest.mark.parametrize(
    "measured",
    [
        deviations.of_counts(np.array([0.0, 7.0, 4000.0])),
        deviations.of_shares(np.array([0.0, 7.0, 20.0]), np.array([20.0, 21.0, 20.0])),
        deviations.of_medians(
            *np.array([[0.1, 5.0], [0.2, 6.0], [0.3, 7.0]]), np.array([9.0, 9.0])
        ),
    ],
    ids=["counts", "shares", "medians"],
)
def test_the_way_back_gives_the_number(measured):
    np.testing.assert_allclose(measured.back(measured.place), measured.value, atol=1e-9)
