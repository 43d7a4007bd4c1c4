"""How far generated patients are distributed as held-out real ones.

Every quantity is a function of the real patients' weights. What is no ratio of sums over them
comes as its value with each real patient's influence, the exact derivative with respect to the
patient's weight. The generated patients are held fixed: each training seed draws its own, so that
what they add to the uncertainty stands between seeds. Real patients are held-out ones; the
published evaluation compares with those that the generator was trained on.

Source: evaluation/ of HiSGT's repository (jameszhou-gl/HiSGT 619e23e) for R² of unigrams, bigrams
and prevalence, and for the largest difference of prevalence, there called "mmd" although it is no
maximum mean discrepancy. The dimension-wise distance after Choi et al. (2017, medGAN,
arXiv 1703.06490), as a mean; the joint distance is ours.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64, Int64

from medrec.cohort import KINDS, Kind
from medrec.generation._histories import Histories
from medrec.generation._measures import LEAST_VISITS
from medrec.generation._numbered import Numbered
from medrec.generation._pairs import Pairs, same_visit, sequential
from medrec.measures import Terms, linearised


def fidelity(
    real: Histories, generated: Histories, sizes: Mapping[Kind, int]
) -> tuple[dict[str, Terms], dict[str, float]]:
    """Returns every measure's terms, a unit a real patient, and facts of both sides.

    Args:
        real: held-out patients.
        generated: drawn patients; of the same vocabularies.
        sizes: of the vocabularies.

    Returns:
        terms: by name of `FIDELITY`. A measure that is not defined, for instance the sequential
            one where no patient comes twice, has denominators 0.
        facts: mean and standard deviation (over patients, or visits) of visits of a patient and
            of codes of a visit, of each kind too: `visits_mean_real`, `codes_sd_generated`, ...
    """
    ours, drawn = Numbered.of(real, sizes), Numbered.of(generated, sizes)
    ours_together = same_visit(ours)
    terms = {
        "unigram_r2": _unigram_r2(ours, drawn),
        "same_visit_r2": _pair_r2(ours_together, same_visit(drawn)),
        "sequential_r2": _pair_r2(sequential(ours), sequential(drawn)),
        "prevalence_r2": _prevalence_r2(ours, drawn),
        "prevalence_gap": _prevalence_gap(ours, drawn),
        "dimension_distance": _dimension_distance(ours, drawn),
        "joint_distance": _joint_distance(ours, ours_together, drawn),
        "visits_gap": _gap(ours.visits, np.ones(ours.patients), float(drawn.visits.mean())),
        "codes_gap": _gap(
            ours.total(ours.codes.counts.astype(float)),
            ours.visits,
            float(drawn.codes.counts.mean()),
        ),
    }
    facts: dict[str, float] = {}
    for name, side in {"real": real, "generated": generated}.items():
        facts.update(_facts(name, side))
    return terms, facts


def _facts(name: str, side: Histories) -> dict[str, float]:
    of: dict[str, np.ndarray] = {kind: side.codes[kind].counts for kind in KINDS}
    of |= {"codes": sum(of.values(), np.zeros(1)), "visits": side.visits}
    means = {f"{what}_mean_{name}": float(np.mean(number)) for what, number in of.items()}
    return {**means, **{f"{what}_sd_{name}": float(np.std(n)) for what, n in of.items()}}


def _undefined(patients: int) -> Terms:
    return np.zeros(patients), np.zeros(patients)


def _r2(
    real: Float64[np.ndarray, " keys"], generated: Float64[np.ndarray, " keys"]
) -> tuple[float, Float64[np.ndarray, " keys"]] | None:
    """Returns R² and its derivative with respect to the real values; none where they are equal."""
    residual, centred = real - generated, real - real.mean()
    total = centred @ centred
    if total == 0:
        return None
    unexplained = (residual @ residual) / total
    return 1 - unexplained, 2 * (unexplained * centred - residual) / total


def _influence(
    weighted: Float64[np.ndarray, " patients"],
    size: Float64[np.ndarray, " patients"],
    slope_of_size: float,
) -> Float64[np.ndarray, " patients"]:
    """Returns the influence on a function f of shares p_k = Σ_i c_ik / Σ_i s_i.

    Args:
        weighted: Σ_k f_k c_ik, f_k being the derivative of f with respect to p_k.
        size: s_i.
        slope_of_size: Σ_k f_k p_k.
    """
    return (weighted - slope_of_size * size) / size.mean()


def _unigram_r2(real: Numbered, generated: Numbered) -> Terms:
    counts = _column_sums(real.occurrences)
    drawn = _column_sums(generated.occurrences)
    used = (counts > 0) | (drawn > 0)
    shares = counts / max(counts.sum(), 1)
    found = _r2(shares[used], drawn[used] / max(drawn.sum(), 1))
    if found is None:
        return _undefined(real.patients)
    slope = np.zeros(real.size)
    slope[used] = found[1]
    size = real.total(real.codes.counts.astype(float))
    return linearised(found[0], _influence(real.occurrences @ slope, size, float(slope @ shares)))


def _pair_r2(real: Pairs, generated: Pairs) -> Terms:
    """Returns R² of the shares of pairs over the union of those that occur."""
    keys, drawn_keys = real.keys, generated.keys
    union = np.sort(np.concatenate([keys, drawn_keys]), kind="stable")  # of two runs: a merge
    union = union[np.append(True, union[1:] != union[:-1])] if len(union) else union
    if len(union) < 2 or not len(keys):
        return _undefined(real.patients)
    shares, drawn = np.zeros(len(union)), np.zeros(len(union))
    shares[np.searchsorted(union, keys)] = real.counts.data / real.counts.data.sum()
    if len(drawn_keys):
        drawn_shares = generated.counts.data / generated.counts.data.sum()
        drawn[np.searchsorted(union, drawn_keys)] = drawn_shares
    found = _r2(shares, drawn)
    if found is None:
        return _undefined(real.patients)
    value, slope = found
    of_keys = slope[np.searchsorted(union, keys)]

    def lookup(
        first: Int64[np.ndarray, " pairs"], second: Int64[np.ndarray, " pairs"]
    ) -> Float64[np.ndarray, " pairs"]:
        return of_keys[np.searchsorted(keys, first * real.size + second)]

    return linearised(value, _influence(real.sums(lookup), real.number, float(slope @ shares)))


def _prevalence_r2(real: Numbered, generated: Numbered) -> Terms:
    shares = _column_sums(real.ever) / real.patients
    found = _r2(shares, _column_sums(generated.ever) / generated.patients)
    if found is None:
        return _undefined(real.patients)
    value, slope = found
    return linearised(
        value, _influence(real.ever @ slope, np.ones(real.patients), float(slope @ shares))
    )


def _prevalence_gap(real: Numbered, generated: Numbered) -> Terms:
    shares = _column_sums(real.ever) / real.patients
    difference = shares - _column_sums(generated.ever) / generated.patients
    code = int(np.argmax(np.abs(difference)))
    has = real.ever[:, [code]].toarray()[:, 0]
    return linearised(
        float(np.abs(difference[code])), np.sign(difference[code]) * (has - shares[code])
    )


def _dimension_distance(real: Numbered, generated: Numbered) -> Terms:
    shares = _column_sums(real.matrix) / len(real.patient)
    difference = shares - _column_sums(generated.matrix) / len(generated.patient)
    slope = np.sign(difference) / real.size
    return linearised(
        float(np.abs(difference).mean()),
        _influence(real.occurrences @ slope, real.visits.astype(float), float(slope @ shares)),
    )


def _joint_distance(real: Numbered, pairs: Pairs, generated: Numbered) -> Terms:
    """Returns the distance of correlations, with the derivative through covariance and variances.

    With J_ab, p_a the shares of visits, r_ab = (J_ab - p_a p_b) / (s_a s_b) and
    s_a² = p_a (1 - p_a), so that with h_a = (1 - 2 p_a) / (2 s_a²)
    dr_ab = (dJ_ab - p_b dp_a - p_a dp_b) / (s_a s_b) - r_ab (h_a dp_a + h_b dp_b).
    """
    chosen = np.flatnonzero(_column_sums(real.matrix) >= LEAST_VISITS)
    number = len(chosen)
    if number < 2:
        return _undefined(real.patients)
    shares, joint, inverse, correlations = _correlations(real, chosen)
    difference = correlations - _correlations(generated, chosen)[3]
    value = float(np.sqrt((difference**2).sum() / (number * (number - 1))))
    if value == 0:
        return linearised(0.0, np.zeros(real.patients))
    # Weight of each unordered pair, at both places of a symmetric matrix with zero diagonal.
    weights = difference * (2 / (number * (number - 1) * value))
    of_joint = weights * np.outer(inverse, inverse)
    of_share = -of_joint @ shares
    of_share -= (0.5 - shares) * inverse**2 * (weights * correlations).sum(axis=1)
    slope_of_size = 0.5 * (of_joint * joint).sum() + of_share @ shares
    place = np.full(real.size, number)
    place[chosen] = np.arange(number)
    table = np.pad(of_joint, (0, 1))  # other codes weigh nothing
    weighted = pairs.sums(lambda first, second: table[place[first], place[second]])
    weighted += real.occurrences[:, chosen] @ of_share
    return linearised(value, _influence(weighted, real.visits.astype(float), slope_of_size))


def _correlations(side: Numbered, chosen: Int64[np.ndarray, " codes"]) -> tuple[
    Float64[np.ndarray, " codes"],
    Float64[np.ndarray, "codes codes"],
    Float64[np.ndarray, " codes"],
    Float64[np.ndarray, "codes codes"],
]:  # fmt: skip
    """Returns shares of visits, of both codes together, 1 / s, and correlations off the diagonal.

    1 / s is 0 for a code that all visits have, or none; so are its correlations.
    """
    rows = side.matrix[:, chosen]
    joint = (rows.T @ rows).toarray() / len(side.patient)
    shares = joint.diagonal().copy()
    np.fill_diagonal(joint, 0.0)
    variance = shares * (1 - shares)
    inverse = np.zeros(len(chosen))
    inverse[variance > 0] = variance[variance > 0] ** -0.5
    correlations = (joint - np.outer(shares, shares)) * np.outer(inverse, inverse)
    np.fill_diagonal(correlations, 0.0)
    return shares, joint, inverse, correlations


def _gap(amount: np.ndarray, units: np.ndarray, generated: float) -> Terms:
    """Returns |Σ amount / Σ units - generated|."""
    ratio = amount.sum() / units.sum()
    influence = (amount - ratio * units) / units.mean()
    return linearised(float(abs(ratio - generated)), np.sign(ratio - generated) * influence)


def _column_sums(matrix: object) -> Float64[np.ndarray, " columns"]:
    return np.asarray(matrix.sum(axis=0), dtype=np.float64).ravel()  # type: ignore[attr-defined]
