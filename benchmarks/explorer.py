"""Claim: the page's explorer draws 60 frames a second while a hand moves a slider.

Run      python -m benchmarks.explorer
Peer     the screen: 60 frames a second are 16.7 ms each
Ours     the explorer in a headless Chromium: a slider moves at every frame, over all dims and back, for each activation
         and decoder; time of the script alone, and from frame to frame with layout and painting
Differs  without a graphics card, so that painting too is the processor's work; wall time, which wants a quiet machine

A frame that comes late counts as late: medians and 95 % quantiles over frames.
"""

import shutil
import statistics
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright

from manifold_lab.core.cli import run_cli
from manifold_lab.core.errors import InputError, at_least
from manifold_lab.core.files import publish, text
from manifold_lab.report import html, tables
from manifold_lab.report.speed_table import DECODERS

ROOT = Path(__file__).parent.parent
COLUMNS = ("activation", "decoder", "frames", "script_ms", "script_p95", "frame_ms", "frame_p95", "ratio")
FRAMES = 60
CASES = tuple((activation, decoder) for activation in ("relu", "gelu") for decoder in DECODERS)
SLIDE = """async ({ activation, decoder, frames }) => {
  const put = (name, value) => {
    const control = document.querySelector(".controls").elements[name];
    control.value = value;
    control.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const frame = () => new Promise(requestAnimationFrame);
  put("activation", activation);
  put("decoder", decoder);
  const { min, max } = document.querySelector(".controls").elements.dim, span = max - min, scripts = [], times = [];
  for (let place = 0; place < frames; place++) {
    put("dim", Number(min) + Math.abs((place % (2 * span)) - span));
    times.push(await frame());
    scripts.push(Number(document.getElementById("explorer").dataset.redraw));
  }
  return { scripts, times };
}"""


@dataclass(frozen=True)
class Run:
    """Time the explorer's frames in a headless Chromium."""

    frames: int = 300
    """Of each activation and decoder."""
    out: Path = Path("benchmarks")
    """Folder for explorer.csv."""


def chromium() -> str | None:
    """The path of a Chromium; None where there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def line(page: Page, activation: str, decoder: str, frames: int) -> dict[str, str]:
    """One line: a slider moved at every frame; the first frames, in which code is compiled, do not count."""
    warm = frames // 5
    found = page.evaluate(SLIDE, {"activation": activation, "decoder": decoder, "frames": frames + warm})
    scripts, between = found["scripts"][warm:], np.diff(found["times"])[warm:]
    return {
        "activation": activation,
        "decoder": decoder,
        "frames": str(frames),
        "script_ms": f"{statistics.median(scripts):.3g}",
        "script_p95": f"{np.quantile(scripts, 0.95):.3g}",
        "frame_ms": f"{np.median(between):.3g}",
        "frame_p95": f"{np.quantile(between, 0.95):.3g}",
        "ratio": f"{np.median(between) * FRAMES / 1000:.3g}",
    }


def run(options: Run) -> None:
    """Open the page, time every case, print the lines and write the csv.

    Raises:
        InputError: without a Chromium, or for less than 10 frames.
    """
    at_least("frames", options.frames, 10)
    browser = chromium()
    if browser is None:
        raise InputError("browser: there is no Chromium on this machine; install one")
    with html.server(html.build_page(ROOT), 0) as server, sync_playwright() as driver:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        # Chromium refuses its sandbox to root, and to containers without user namespaces.
        page = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"]).new_page()
        page.goto(f"http://localhost:{server.server_port}/#explorer&dim=3")
        lines = [line(page, activation, decoder, options.frames) for activation, decoder in CASES]
        server.shutdown()
    for one in lines:
        print("  ".join(f"{name} {value}" for name, value in one.items()))
    publish(options.out, {"explorer.csv": text(tables.to_csv(lines, COLUMNS))})


if __name__ == "__main__":
    sys.exit(run_cli(Run, run, "benchmarks.explorer"))
