"""Two layers, one secret: samples in milliseconds, without zeros and without a search over rows.

Read `search`, `relation`, `walk`, `finish`, `judge`, `deflation`; then both kinds of activation, `relu` with `exact`,
and `smooth` with `affine`; then `twins`, `noisy` and `witness`, what this room says to the certificate. May import
`certificate`, `spear` and what lies below.
"""
