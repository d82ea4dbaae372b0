"""The report page in a real headless Chromium: what a reader sees, does and gets; numbers against the library's."""

import csv
import io
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from manifold_lab import theory
from manifold_lab.activations import ACTIVATIONS
from manifold_lab.core.errors import InputError
from manifold_lab.random_layer.embeddings import Embedding, pseudo_inverse
from manifold_lab.random_layer.layer import RandomLayer
from manifold_lab.random_layer.manifolds import ManifoldSpec
from manifold_lab.random_layer.monte_carlo import MonteCarlo, draw_random_layer, layers
from manifold_lab.report import claims as paper
from manifold_lab.report import html as report_page
from manifold_lab.report.texts import ReportOptions, run

ROOT = Path(__file__).parent.parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MEGABYTES = 3
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SLIDERS = ("dim", "seed", "turns", "activation", "decoder")


@pytest.fixture(scope="module")
def html() -> str:
    return report_page.build_page(ROOT)


@pytest.fixture(scope="module")
def address(html: str) -> Iterator[str]:
    """The page as --serve serves it."""
    with report_page.server(html, 0) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://{made.server_address[0]}:{made.server_port}/"
        made.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with sync_playwright() as driver:
        # Chromium refuses its sandbox to root, and to containers without user namespaces.
        made = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def heard() -> list[str]:
    """Errors and foreign requests of every page of these tests."""
    return []


def opened(browser: Browser, address: str, heard: list[str], **how: object) -> Page:
    context = browser.new_context(**({"viewport": DESKTOP} | how))  # type: ignore[arg-type]
    context.set_default_timeout(10_000)
    page = context.new_page()

    def hear(message: ConsoleMessage) -> None:
        heard.extend([message.text] if message.type in ("error", "warning") else [])

    def watch(request: Request) -> None:
        heard.extend([request.url] if request.url != address and not request.url.startswith(("data:", "blob:")) else [])

    page.on("console", hear)
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", watch)
    page.goto(address)
    return page


@pytest.fixture
def page(browser: Browser, address: str, heard: list[str]) -> Iterator[Page]:
    made = opened(browser, address, heard)
    yield made
    made.context.close()
    assert heard == []


@pytest.fixture(scope="module")
def explorer(browser: Browser, address: str, heard: list[str]) -> Iterator[Page]:
    """A page that is kept from case to case."""
    made = opened(browser, address, heard)
    yield made
    made.context.close()
    assert heard == []


def put(page: Page, **values: float) -> None:
    """Set sliders, as a hand that is faster than any."""
    for name, value in values.items():
        page.locator(f"#{name}").fill(f"{value:g}")


def exact(page: Page, name: str) -> float:
    return float(page.locator(f"#{name}").get_attribute("data-exact") or "nan")


def test_every_claim_is_there_with_its_verdict_number_and_command(page: Page) -> None:
    for key, found in (("claims", paper.verdicts(ROOT)), ("beyond", paper.beyond_the_paper(ROOT))):
        shown = page.locator(f"#{key} > details.claim")
        told = [re.sub(r"\s+", " ", text) for text in shown.all_text_contents()]
        assert len(told) == len(found) > 10
        for one, words in zip(found, told, strict=True):
            expected = (one.verdict, one.claim.place, one.claim.says, one.value, one.measured, one.command)
            assert all(re.sub(r"\s+", " ", part).strip() in words for part in expected)
        assert [claim.get_attribute("data-verdict") for claim in shown.all()] == [one.verdict for one in found]
    assert page.locator("#errata > ol > li").count() == len(paper.paper_errata()) == 14


def test_a_claim_opens_to_its_figure_its_table_its_command_and_its_csv(page: Page, tmp_path: Path) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    claim = page.locator("details.claim[data-stem='fig1_spiral']").first
    claim.locator("summary").first.click()
    figure = claim.get_by_role("img")
    assert figure.bounding_box()["width"] > 500 and len(figure.get_attribute("alt") or "") > 30  # type: ignore[index]
    claim.get_by_role("button", name="Copy").click()
    assert page.evaluate("navigator.clipboard.readText()") == "python -m experiments.fig1_spiral"
    with page.expect_download() as download:
        claim.get_by_role("link", name="Download fig1_spiral.csv").click()
    download.value.save_as(tmp_path / "got.csv")
    assert (tmp_path / "got.csv").read_bytes() == (ROOT / "figures" / "fig1_spiral.csv").read_bytes()


def test_every_published_figure_is_drawn_where_its_claim_opens(page: Page) -> None:
    stems = {one.stem for one in paper.verdicts(ROOT) if one.lines}
    drawn = {stem for stem in stems if (ROOT / "figures" / f"{stem}.png").is_file()}
    assert len(drawn) >= 8
    for stem in drawn:
        claim = page.locator(f"details.claim[data-stem='{stem}']").first
        claim.locator("summary").first.click()
        page.wait_for_function(
            "(stem) => document.querySelector(`img[data-name=${stem}][src]`).naturalWidth > 100", arg=stem
        )


def test_tables_hold_the_csv_and_sort_by_numbers_and_by_words(page: Page) -> None:
    claim = page.locator("details.claim[data-stem='tab4_cost']").first
    claim.locator("summary").first.click()
    table = claim.locator("table").first
    lines = list(csv.DictReader(io.StringIO((ROOT / "figures" / "tab4_cost.csv").read_text(encoding="utf-8"))))
    table.wait_for()
    names = table.locator("th").all_text_contents()
    for column, how in (("paper_ms", int), ("network", str.lower)):
        expected = sorted((line[column] for line in lines if line[column]), key=how)
        for reverse in (False, True):
            table.get_by_role("button", name=column, exact=True).press("Enter")
            head = table.locator("th").nth(names.index(column))
            assert head.get_attribute("aria-sort") == ("descending" if reverse else "ascending")
            cells = table.locator(f"tbody td:nth-child({names.index(column) + 1})").all_text_contents()
            assert [cell for cell in cells if cell] == (expected[::-1] if reverse else expected)
            assert cells[len(expected) :] == [""] * (len(lines) - len(expected))


def test_the_filter_works_by_mouse_and_by_keyboard(page: Page) -> None:
    seen = page.locator("details.claim:visible")
    everything = seen.count()
    box = page.get_by_label(re.compile("^ *fails"))
    box.click()
    verdicts = {one.get_attribute("data-verdict") for one in seen.all()}
    assert verdicts == {"holds", "undecided", "not run", "not testable here"}
    box.press("Space")
    assert seen.count() == everything
    page.get_by_label("Find").press_sequentially("table 4")
    assert 3 < seen.count() < everything
    assert all("Table 4" in text for text in seen.all_text_contents())
    assert page.locator("#filter output").text_content() == f"{seen.count()} of {everything} shown"


@pytest.mark.parametrize("name", SLIDERS)
def test_sliders_work_by_mouse_and_by_keyboard(page: Page, name: str) -> None:
    slider, shown = page.locator(f"#{name}"), page.locator(f"#{name}-shown")
    before = page.locator("#decoded").inner_html(), shown.text_content()
    slider.press("End")
    last = page.locator("#decoded").inner_html(), shown.text_content()
    assert last[0] != before[0] and last[1] != before[1]
    assert slider.get_attribute("aria-valuetext") == last[1]
    slider.press("ArrowLeft")
    assert shown.text_content() != last[1]
    box = slider.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] - 4, box["y"] + box["height"] / 2)
    page.mouse.down()
    assert shown.text_content() == last[1]
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=3)
    assert shown.text_content() != last[1]  # while it is held
    page.mouse.up()
    low, high = (float(slider.get_attribute(key) or "nan") for key in ("min", "max"))
    assert low < float(slider.input_value()) < high


CASES = [
    (2, 0, 3.0, "relu", "pinv"), (3, 15, 3.0, "relu", "exact"), (5, 1, 0.5, "relu", "affine"),
    (30, 2, 6.0, "relu", "pinv"), (30, 3, 3.0, "relu", "affine"), (15, 4, 2.5, "relu", "exact"),
    (4, 5, 3.0, "identity", "affine"), (7, 6, 3.0, "relu6", "exact"), (6, 7, 4.0, "leaky_relu", "exact"),
    (5, 8, 3.0, "gelu", "exact"), (8, 9, 3.0, "silu", "exact"), (9, 10, 1.5, "hardswish", "exact"),
    (12, 11, 3.0, "tanh", "exact"), (10, 12, 3.0, "abs", "pinv"), (11, 13, 3.0, "gelu", "affine"),
]  # fmt: skip


def by_the_library(dim: int, seed: int, turns: float, name: str, decoder: str) -> dict[str, float]:
    """The explorer's numbers for the same T, which it holds in single precision."""
    (layer,) = layers(MonteCarlo((dim,), seed=seed, manifold=ManifoldSpec(turns=turns)), torch.device("cpu"))
    matrix = next(draw_random_layer(layer, 1, layer.bytes_per_draw)).matrix.float().double()
    x, activation = layer.points.x, ACTIVATIONS[name]
    channel = RandomLayer(x, Embedding(matrix, pseudo_inverse(matrix)), activation)
    x_hat = {"pinv": channel.linear, "affine": channel.affine, "exact": channel.exact}[decoder]()[0]
    judged = slice(1, None, 2) if decoder == "affine" else slice(None)
    spread = torch.linalg.svdvals(channel.y[0] - channel.y[0].mean(0)).square()
    rng = theory.active_probability(x.norm(dim=1).numpy(), active=activation.window or (0, 0))
    return {
        "preserved": float(channel.preserved.double().mean()),
        "lost": float((~channel.preserved).sum()),
        "theory": float(theory.preserved_fraction(dim, 2, rng).mean()),
        "error": float((x_hat - x)[judged].square().sum() / x[judged].square().sum()),
        "code-said": float(spread[:2].sum() / spread.sum()),
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_the_explorers_numbers_are_the_librarys(explorer: Page, case: tuple[int, int, float, str, str]) -> None:
    dim, seed, turns, name, decoder = case
    places = {"activation": list(ACTIVATIONS).index(name), "decoder": report_page.EXPLORED.index(decoder)}
    put(explorer, dim=dim, seed=seed, turns=turns, **places)
    for key, value in by_the_library(*case).items():
        assert exact(explorer, key) == pytest.approx(value, rel=1e-6, abs=1e-9), key
    crosses = explorer.locator("#decoded path.lost").get_attribute("d") or ""
    assert bool(crosses) == (exact(explorer, "lost") > 0)


def test_every_activation_and_decoder_is_among_the_cases() -> None:
    assert {case[3] for case in CASES} == set(ACTIVATIONS) and {case[4] for case in CASES} == set(report_page.EXPLORED)


def test_nothing_is_fetched_and_the_page_is_small(html: str) -> None:
    assert len(html.encode()) < MEGABYTES * 10**6
    assert not re.search(r"""(src|href)=["']?(https?:)?//|@import|url\((?!#)""", html)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_looks_and_accessibility(page: Page, scheme: str, size: dict[str, int], tmp_path: Path) -> None:
    page.set_viewport_size(size)  # type: ignore[arg-type]
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.reload()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(253, 253, 251)"
    assert dark == (scheme == "dark")
    page.locator("details.claim[data-stem='tab3_memory'] > summary").first.click()
    page.locator("table").wait_for()  # exactly one, made once the claim has opened
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    found = Axe().run(page).response["violations"]
    grave = [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]
    assert grave == []
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{scheme}-{size['width']}.png", full_page=True)
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before


def test_it_prints_light_and_without_controls(page: Page) -> None:
    page.get_by_role("button", name="Dark").click()
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator(".sliders, #filter, #theme").locator("visible=true").count() == 0
    assert page.locator("details.claim > summary:visible").count() > 50
    assert page.pdf()[:4] == b"%PDF"


def test_the_server_listens_to_this_machine_alone_and_serves_one_page(html: str, page: Page, address: str) -> None:
    assert address.startswith("http://127.0.0.1:")
    assert page.request.get(f"{address}pyproject.toml").status == 404
    with pytest.raises(InputError, match="port: 70000 cannot be had"):
        report_page.server(html, 70000)


def test_the_door_writes_the_page(html: str, tmp_path: Path) -> None:
    run(ReportOptions(html=tmp_path / "out", root=ROOT))
    assert (tmp_path / "out" / "index.html").read_text(encoding="utf-8") == html
