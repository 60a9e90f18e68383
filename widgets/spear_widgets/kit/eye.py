"""An eye that looks at a sphere of directions."""

import numpy as np
import torch
from torch import Tensor


def view(turn: float, tilt: float) -> Tensor:
    """Axes of an eye that looks at the sphere: right, up and towards the eye, as rows, shape (3, 3).

    Args:
        turn: degrees around the vertical axis.
        tilt: degrees above the equator, −90 to 90.
    """
    a, t = np.deg2rad(turn), np.deg2rad(tilt)
    towards = [np.cos(t) * np.cos(a), np.cos(t) * np.sin(a), np.sin(t)]
    right = [-np.sin(a), np.cos(a), 0.0]
    up = [-np.sin(t) * np.cos(a), -np.sin(t) * np.sin(a), np.cos(t)]
    return torch.tensor([right, up, towards], dtype=torch.float64)
