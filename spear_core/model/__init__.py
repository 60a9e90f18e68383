"""From any `nn.Module` and what people call gradients to a `Problem`: consecutive linear layers.

Read `parameters`, `weight_norm` and `reading` (gradients by name, the layer), `graph` with `symbolic` and `recording`
(the forward pass), `calls` (its linear layers), `following`, `section`, `activations` and `folding` (what follows a
layer), `layers` (all of it together) and `checks` (of tensors). May import what lies below; nothing of `spear`.
"""
