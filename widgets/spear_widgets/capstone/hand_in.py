"""What a student hands in: for each message the rows that came back, and which of them are claimed to be exact."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spear_widgets.capstone.messages import NAMES, SIDE, as_batch
from spear_widgets.kit import base, drawing
from spear_widgets.kit.samples import sample_pictures

PIXELS = 3 * SIDE * SIDE
MOST_ROWS = 12  # of one message; no batch is that large
MOST_BYTES = 1_000_000  # of an unpacked hand-in
FILE = Path("capstone.npz")


class HandIn(base.Picture):
    """The rows of a hand-in as pictures, one line for each message, with what is claimed of each."""

    def __init__(self, rows: Mapping[str, Tensor], claims: Mapping[str, Tensor]) -> None:
        lines = []
        for name in rows:
            labels = ["exact" if claim else "not certified" for claim in claims[name]]
            grid = drawing.picture_grid(
                sample_pictures(as_batch(rows[name]), rows[name]), side=100, labels=labels
            )
            lines.append(drawing.below([drawing.headline(name), grid]))
        counts = [
            f"{name} {len(rows[name])} rows, {int(claims[name].sum())} of them claimed exact" for name in rows
        ]
        super().__init__(drawing.below(lines, gap=14), f"What is handed in: {'; '.join(counts)}.")


def hand_in(recovered: Mapping[str, Any], exact: Mapping[str, Any], path: Path = FILE) -> HandIn | str:
    """Check the form of the answers, write them to a file, and show what is in it. Nothing here knows the photographs.

    Args:
        recovered: by the message's name the rows that came back, shape (k, 768), as they went into the network.
        exact: by the same names, k times True or False: do you claim that this row is a photograph of the client,
            exact to rounding?
        path: the file.

    Raises:
        ValueError: answers of another form, in words.
    """
    unknown = sorted({*recovered, *exact} - set(NAMES))
    if unknown:
        raise ValueError(f"names must be among {', '.join(NAMES)}, got {', '.join(map(repr, unknown))}")
    if set(recovered) != set(exact):
        raise ValueError(f"both must answer the same messages, got {sorted(recovered)} and {sorted(exact)}")
    if not recovered:
        return "Nothing to hand in yet: no message is answered."
    rows = {name: as_rows(name, recovered[name]) for name in NAMES if name in recovered}
    claims = {name: as_claims(name, exact[name], len(rows[name])) for name in rows}
    arrays: dict[str, Any] = {f"{name}_rows": rows[name].numpy() for name in rows}
    arrays |= {f"{name}_exact": claims[name].numpy() for name in rows}
    np.savez_compressed(path, **arrays)
    return HandIn(rows, claims)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The rows and claims of a file, checked as when it was written: it may come from anybody.

    Raises:
        ValueError: if it is no hand-in.
        OSError: if it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # sizes first: a small file can unpack to a very large one
            if sum(entry.file_size for entry in archive.infolist()) > MOST_BYTES:
                raise ValueError(f"must be at most {MOST_BYTES:,} bytes when unpacked")
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise ValueError(f"must be a file that hand_in wrote: {error}") from error
    wanted = {f"{name}_{part}" for name in NAMES for part in ("rows", "exact")}
    if not arrays or not set(arrays) <= wanted:
        raise ValueError(
            f"must be a file that hand_in wrote, got {', '.join(sorted(arrays)[:4]) or 'nothing'}"
        )
    rows = {name: as_rows(name, arrays[f"{name}_rows"]) for name in NAMES if f"{name}_rows" in arrays}
    claims = {name: as_claims(name, arrays.get(f"{name}_exact", ()), len(rows[name])) for name in rows}
    return rows, claims


def as_rows(name: str, value: Any) -> Tensor:
    """Rows as a float32 tensor.

    Raises:
        ValueError: if they are none.
    """
    try:
        rows = torch.as_tensor(value).detach().cpu().to(torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"recovered[{name!r}] must be a tensor, got {type(value).__name__}") from error
    if rows.ndim != 2 or rows.shape[1] != PIXELS or not 1 <= len(rows) <= MOST_ROWS:
        wanted = f"(k, {PIXELS}) with k from 1 to {MOST_ROWS}"
        raise ValueError(f"recovered[{name!r}] must have the shape {wanted}, got {tuple(rows.shape)}")
    if not rows.isfinite().all():
        raise ValueError(f"recovered[{name!r}] must hold numbers only, got inf or nan")
    return rows


def as_claims(name: str, value: Sequence[bool] | Tensor | Any, count: int) -> Tensor:
    """Claims as a tensor of True and False, one for each row.

    Raises:
        ValueError: if they are none.
    """
    try:
        claims = torch.as_tensor(value).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"exact[{name!r}] must be True or False for each row, got {type(value).__name__}"
        ) from error
    if claims.dtype != torch.bool or tuple(claims.shape) != (count,):
        raise ValueError(
            f"exact[{name!r}] must be {count} times True or False, got {tuple(claims.shape)} of {claims.dtype}"
        )
    return claims
