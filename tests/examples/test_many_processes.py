"""The example with torchrun, as its first line says."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.thorough
def test_two_processes_recover_the_batch_together():
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    script = [str(ROOT / "examples" / "many_processes.py"), "-b", "12", "--method", "sampling"]
    done = subprocess.run([*command, *script], capture_output=True, text=True, timeout=200, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "2 processes" in done.stdout
    assert "Against the truth: 12 of 12 exact" in done.stdout
