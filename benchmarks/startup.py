"""What `brain2video --help` costs beside the `--help` of an empty typer app with as many commands, in one paired run.

Run with ``.venv/bin/python benchmarks/startup.py``; prints medians and the median of the paired ratios.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from brain2video.cli import app

RUNS = 21

EMPTY = """
import typer
app = typer.Typer(add_completion=False, no_args_is_help=True)
{commands}
app()
"""


def seconds(command: list[str]) -> float:
    """Return the wall time of one run."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    script = Path(sys.executable).with_name("brain2video")
    commands = [command.callback.__name__ for command in app.app.registered_commands if command.callback]
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty.py"
        bodies = (f"@app.command()\ndef c{i}() -> None:\n    '''Do {name}.'''" for i, name in enumerate(commands))
        empty.write_text(EMPTY.format(commands="\n".join(bodies)))
        ours, baseline = [str(script), "--help"], [sys.executable, str(empty), "--help"]
        seconds(ours), seconds(baseline)
        pairs = [(seconds(ours), seconds(baseline)) for _ in range(RUNS)]
    print(f"commands: {len(commands)}, runs: {RUNS}")
    print(f"brain2video --help   median {statistics.median(a for a, _ in pairs):.3f} s")
    print(f"empty typer --help   median {statistics.median(b for _, b in pairs):.3f} s")
    print(f"ratio                median {statistics.median(a / b for a, b in pairs):.2f}")


if __name__ == "__main__":
    main()
