"""The stand-in's own Python environment, made once and kept between test runs."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
CACHE = Path("~/.cache/weather-dagster-tests").expanduser()


def python() -> Path:
    """The interpreter of the environment; the first call installs it, and others wait meanwhile."""
    recipe = REQUIREMENTS.read_bytes() + sys.version.encode()
    home = CACHE / f"sail-{hashlib.blake2b(recipe, digest_size=6).hexdigest()}"
    interpreter = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    complete = home / "complete"
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{home}.lock"):
        if not complete.exists():
            shutil.rmtree(home, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", home], check=True)
            install = [shutil.which("uv") or interpreter, *(() if shutil.which("uv") else ("-m",)), "pip", "install"]
            target = ("--python", interpreter) if shutil.which("uv") else ()
            subprocess.run([*install, "--quiet", *target, "-r", REQUIREMENTS], check=True)
            complete.touch()
    return interpreter
