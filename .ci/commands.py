"""Run every ```sh block of the texts as it stands, in order, but for those that make a virtual environment.

A command that wants what no clean checkout has (a cluster, ImageNet) stands in a ```console block, and the text
says so.
"""

import re
import subprocess
import sys
import time
from pathlib import Path


def main() -> int:
    """The first status that is not zero."""
    for path in (Path("README.md"), *sorted(Path("docs").glob("*.md"))):
        for block in re.findall(r"^```sh\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            if block.startswith("python3 -m venv"):
                continue
            print(f"-- {path}:\n{block}", end="", flush=True)
            began = time.monotonic()
            shell = ["bash", "-euo", "pipefail", "-c", block]
            status = subprocess.run(shell, check=False, stdin=subprocess.DEVNULL).returncode
            print(f"-- status {status} after {time.monotonic() - began:.0f} s", flush=True)
            if status:
                return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
