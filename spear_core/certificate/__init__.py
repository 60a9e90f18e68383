"""When is a result proven? `record` says what, `certify` how, `replay` and `output_errors` play the client again.

Imports the steps of `spear` and what lies below, and no search.
"""
