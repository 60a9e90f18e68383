"""Through the front part: from the certified inputs of the attacked layer to the inputs of the network.

Read `part` (the map that is to be inverted), `search` (rounds of descent for all samples), `descent`, `finish`, then
`proof` and `gradients` (when a picture is proven). May import `search` and what lies below it, no method that finds
features.
"""
