"""b = 3: the misfit as a heat map on the sphere, seen by an eye."""

from functools import cache, lru_cache

import numpy as np
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor

from spear_widgets.two_shadows.grounds import MAP, Ground

LATITUDES, LONGITUDES = 91, 180
PIXELS = 260  # of the sphere's diameter
SHADES = (MAP(np.arange(256))[:, :3] * 255).astype(np.uint8)


@lru_cache(maxsize=32)
def heat(stage: Ground) -> np.ndarray:
    """Misfit on a grid of latitudes (rows, −90 to 90) and longitudes (columns, a full turn, closed)."""
    latitude = torch.linspace(-90, 90, LATITUDES, dtype=torch.float64).deg2rad()[:, None]
    longitude = torch.linspace(-180, 180, LONGITUDES + 1, dtype=torch.float64).deg2rad()[None]
    points = torch.stack(
        [
            latitude.cos() * longitude.cos(),
            latitude.cos() * longitude.sin(),
            latitude.sin().expand(-1, LONGITUDES + 1),
        ]
    )
    values: np.ndarray = stage.landscape.misfit(points.flatten(1)).reshape(LATITUDES, -1).numpy()
    return values


def sphere_picture(values: np.ndarray, eye: Tensor, pixels: int = PIXELS) -> np.ndarray:
    """The sphere as an eye sees it, coloured by a grid as `heat` makes it; white around it, (p, p, 3)."""
    inside, seen = _half_sphere(pixels)
    x, y, z = eye.T.to(torch.float32).numpy() @ seen
    latitude = (np.arcsin(np.clip(z, -1, 1)) / np.pi + 0.5) * (LATITUDES - 1)
    longitude = (np.arctan2(y, x) / (2 * np.pi) + 0.5) * LONGITUDES
    picture = np.full((pixels, pixels, 3), 255, dtype=np.uint8)
    looked_up = map_coordinates(
        values, np.stack([latitude, longitude]), np.float32, order=1, mode="nearest", prefilter=False
    )
    picture[inside] = SHADES[np.clip(looked_up * len(SHADES), 0, len(SHADES) - 1).astype(np.uint8)]
    return picture


@cache
def _half_sphere(pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Which pixels of a square show the sphere, and the points that they show, as columns."""
    across = np.linspace(-1, 1, pixels, dtype=np.float32)
    x, y = np.meshgrid(across, across)
    inside = x**2 + y**2 <= 1
    x, y = x[inside], y[inside]
    return inside, np.stack([x, y, np.sqrt(np.clip(1 - x**2 - y**2, 0, None))])
