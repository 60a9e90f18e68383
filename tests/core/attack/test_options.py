"""Options that make no sense are refused before any work, with what must be and what was given."""

import numpy as np
import pytest
import torch

from spear_core.attack.options import METHODS, check_options
from spear_core.errors import InputError


@pytest.mark.parametrize(
    "options",
    [
        {},
        *({"method": method} for method in METHODS),
        {"batch_size": 1, "max_samples": 10**12, "time_limit": 0},
        {"batch_size": np.int64(3), "time_limit": np.float32(0.5), "generator": torch.Generator()},
        {"time_limit": float("inf"), "input_shape": (1, 28, 28)},
        {"input_shape": torch.Size([3])},
    ],
)
def test_good_options_pass(options):
    check_options(**options)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"method": "newton"}, 'must be "auto", "sampling", "halfspace" or "consistency", got \'newton\''),
        ({"method": None}, "got None"),
        ({"method": ["auto"]}, "got \\['auto'\\]"),
        *(
            ({name: value}, f"{name} must be a whole number from 1 on, or None, got {value!r}")
            for name in ("batch_size", "max_samples")
            for value in (0, -3, True, 2.0, "4")
        ),
        *(
            (
                {"time_limit": value},
                f"time_limit must be a number of seconds from 0 on, or None, got {value!r}",
            )
            for value in (-1, -0.5, float("nan"), True, "1")
        ),
        *(
            (
                {"input_shape": value},
                "input_shape must be the sizes of one input, as \\(1, 28, 28\\), or None, got",
            )
            for value in (28, "28", (), (1, 0), (1.0, 2), torch.ones(2))
        ),
        ({"generator": 7}, "generator must be a torch.Generator or None, got int"),
    ],
)
def test_bad_options_are_refused(options, match):
    with pytest.raises(InputError, match=match):
        check_options(**options)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_generator_of_the_gpu_is_refused():
    with pytest.raises(InputError, match="must be on the CPU, got one on cuda"):
        check_options(generator=torch.Generator("cuda"))
