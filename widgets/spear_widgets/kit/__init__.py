"""What several notebooks share; imports `spear_core` and no notebook's folder.

Read `scene` (a client, its batch, what the server sees); `drawing`, `samples`, `canvas`, `charts`, `eye` (pictures);
`base` and `controls` (an explorer); `job` and `beside` (long work); `predict` and `exercise` (what a reader answers);
`stored` (measurements); `environment`.
"""
