"""Batches near and above half the width: the relations of several layers at once.

Read `search`, `chain`, `walk`, `finish`. May import `consistency` and what lies below.
"""
