"""Random worlds: whatever a stranger may feed the attack, drawn from a seed, attacked, and judged by the truth.

`draw` makes a `World` out of `batches` (the data), `networks`, `losses` and `tampering`; what the client really fed
into every layer is kept by `client`. `trial` attacks it, and `truth` and `promises` say what went wrong: a certified
row that is no sample, an error that is not typed, a promise that was not kept.
"""
