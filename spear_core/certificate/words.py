"""What a certificate says to a reader."""

from torch import Tensor

from spear_core.certificate.record import Certificate, Claim, Part

OWN_SIZE = (
    0.01  # share of a column's own size up to which an error relative to the largest input may be silent
)
LISTED = 8  # columns at most


def notes(certificate: Certificate) -> tuple[str, ...]:
    """What failed of a complete batch, what its samples weigh, and which are in it several times, in words."""
    means = certificate.claims.count(Claim.MEAN)
    said: tuple[str, ...] = (
        f"{means} of {len(certificate.sharp_rows)} rows may each be a weighted mean of several samples, which no "
        "gradient of this kind tells apart; a batch_size that is known, and equals the rank, would prove more",
    )
    said = said if means else ()
    if not certificate.complete or certificate.unique_rows is None:
        return said
    k = len(certificate.expected_error)
    disagree = 0 if certificate.agreeing_rows is None else int((~certificate.agreeing_rows).sum())
    reasons = {
        Part.GRADIENT: f"the recovered batch gives a gradient that is off by {certificate.gradient_residual:.1e}",
        Part.ZEROS: f"λ < 1 in {disagree} of {k} samples: "
        "wrong directions, weights that do not match this gradient, or noise on it",
        Part.UNIQUE: f"{int((~certificate.unique_rows).sum())} of {k} samples are not unique: "
        "too similar to others to tell apart",
        Part.REPLAY: f"replaying the client misses the other layers by {certificate.replay_residual or 0:.1e}",
    }
    told = [*(reasons[part] for part, holds in certificate.parts.items() if holds is False), *said]
    if certificate.batch_size == 1 and bool(certificate.expected_error.isinf()):
        told.append(
            "one row of the gradient alone tells this sample, or all its entries are of one size, as signs are: "
            "nothing there tells noise from rounding"
        )
    elif blurred := int((certificate.unique_rows & ~certificate.sharp_rows).sum()):
        told.append(f"rounding or noise is amplified beyond exactness in {blurred} of {k} samples")
    if plural := 0 if certificate.plural_rows is None else int(certificate.plural_rows.sum()):
        told.append(
            f"{plural} of {k} samples weigh as much as several of the others: copies of one, "
            "or samples so alike that this gradient shows one row between them"
        )
    elif certificate.uneven:
        told.append(
            "samples weigh differently: one may be in the batch several times, which inputs cannot tell "
            "from gradients that were clipped one by one"
        )
    if not certificate.scale_confirmed:
        told.append(
            "the scale of the inputs rests on the bias gradient alone, which no later layer and no known loss "
            "confirms: exact if weight and bias gradients carry the same factor"
        )
    told += [
        f"sample {row} is in the batch {len(labels)} times, with labels {', '.join(map(str, labels))}"
        for row, labels in certificate.copies.items()
    ]
    odd = 0 if certificate.labels is None else int((certificate.labels < 0).sum()) - len(certificate.copies)
    if odd:
        told.append(f"the loss of {odd} of {k} samples is not that of one label")
    return tuple(told)


def small_columns(inputs: Tensor, certificate: Certificate) -> tuple[str, ...]:
    """Which columns of proven inputs, shape (k, n), are so small that an error beside the largest one blurs them."""
    rows = certificate.proven_rows
    if not rows.any():
        return ()
    sizes, error = inputs[rows].abs().amax(dim=0), certificate.expected_error[rows].max() * inputs.abs().max()
    small = ((error > OWN_SIZE * sizes) & (sizes > 0)).nonzero().flatten().tolist()
    listed = ", ".join(map(str, small[:LISTED])) + (", …" if len(small) > LISTED else "")
    note = (
        f"{len(small)} of {len(sizes)} columns of the inputs are so small beside the largest, of which errors are "
        f"shares, that they may be off by more than a hundredth of their own size: {listed}"
    )
    return (note,) if small else ()
