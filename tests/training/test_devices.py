"""One device and several take the same steps: `on_eight_devices.py`, in a process that has eight."""

import os
import subprocess
import sys
from pathlib import Path


def test_on_eight_devices(tmp_path):
    environment = {
        "JAX_NUM_CPU_DEVICES": "8",
        "JAX_PLATFORMS": "cpu",
        # Many runs there are of the same programs.
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    path = Path(__file__).with_name("on_eight_devices.py")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", path],
        capture_output=True, text=True, env={**os.environ, **environment},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
