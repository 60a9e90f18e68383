"""Who is attacked: its data, its network, and what it sends.

`messages` (gradients, updates, clipping, noise), `defences`, `data` with `census`, `networks`.
"""

from spear_core.client.messages import clipped, gradients, minibatches, noised, update

__all__ = ["clipped", "gradients", "minibatches", "noised", "update"]
