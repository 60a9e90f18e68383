"""What several notebooks share; imports `spear_core` and no notebook's folder.

Read `scene` and `twins` (a client, its batch, what the server sees); `drawing`, `samples`, `canvas`, `charts`
(pictures), `words` (numbers in words); `stage` (what the page draws), the folder `machine` (SPEAR played on one) and
`page` (what it looks like); `base`, `controls` and `kept` (an explorer, alive and saved); `job` and `beside` (long
work); `predict`, and `exercise` with `guard`, `compare`, `relation` and `verdict` (what a reader answers), `veil` (what
is covered until then), `answers` (what is kept of them) and `solutions` (whether they are shown); `riddle` (a picture
that asks), `ribbon` (what is not in the paper); `shipped` and `stored` (notebooks, stored measurements); `environment`.
"""
