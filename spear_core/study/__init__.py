"""What notebooks and benchmarks need beside the attack: theory, measures, landscapes, older attacks, defended clients.

May import everything; nothing but notebooks, widgets, benchmarks and the command line imports it.
"""
