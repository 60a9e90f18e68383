"""Examples that run: each is a script, and a module whose functions the tests call."""
