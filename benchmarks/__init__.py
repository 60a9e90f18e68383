"""Scripts that measure speed, reach and honesty; `world` is what they share with the tests."""
