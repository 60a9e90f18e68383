"""What all tests share."""

from hypothesis import settings

# the same examples in every run: a check that fails once in twenty runs teaches people to look away
settings.register_profile("steady", derandomize=True)
settings.load_profile("steady")
