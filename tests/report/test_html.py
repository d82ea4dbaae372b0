"""The report page in a real headless Chromium: what a reader sees, does and gets; numbers against the library's."""

import csv
import io
import os
import re
import threading
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from benchmarks.explorer import chromium
from manifold_lab import theory
from manifold_lab.activations import ACTIVATIONS
from manifold_lab.core.errors import InputError
from manifold_lab.report import claims as paper
from manifold_lab.report import html as report_page
from manifold_lab.report.answers import answers
from manifold_lab.report.html import explorer as library
from manifold_lab.report.texts import ReportOptions, run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
CHROMIUM = chromium()
MEGABYTES = 3
PATIENCE = 60_000  # milliseconds: without a graphics card, two at a time, a whole page's picture can take 10 s
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SLIDERS = ("dim", "seed", "turns", "bias", "point")


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


HEARD: list[str] = []


@pytest.fixture(scope="module")
def heard() -> list[str]:
    """Errors and foreign requests of every page of these tests."""
    return HEARD


def opened(browser: Browser, address: str, heard: list[str], **how: object) -> Page:
    context = browser.new_context(**({"viewport": DESKTOP} | how))  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE)
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


def until(page: Page, condition: str) -> None:
    """Wait until a condition holds; the page's policy lets no condition in for the browser to wait for."""
    for _ in range(PATIENCE // 100):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(100)
    pytest.fail(f"still not: {condition}")


def settle(page: Page) -> None:
    """Wait for the next frame, in which the explorer draws what a hand changed."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def put(page: Page, **values: float | str) -> None:
    """Set sliders and menus, as a hand that is faster than any."""
    for name, value in values.items():
        if isinstance(value, str):
            page.locator(f"#{name}").select_option(value)
        else:
            page.locator(f"#{name}").fill(f"{value:g}")
    settle(page)


def unfold(page: Page) -> None:
    """Open every group of claims."""
    page.evaluate("document.querySelectorAll('.group').forEach((group) => { group.open = true; })")


def exact(page: Page, name: str) -> float:
    return float(page.locator(f"#{name}").get_attribute("data-exact") or "nan")


def test_every_claim_is_there_with_its_verdict_number_and_command(page: Page) -> None:
    for key, found in (("claims", paper.verdicts(ROOT)), ("beyond", paper.beyond_the_paper(ROOT))):
        shown = page.locator(f"#{key} details.claim")
        output = [re.sub(r"\s+", " ", text) for text in shown.all_text_contents()]
        grouped = [one for group in report_page.by_place(found, report_page.section) for one in group.claims]
        assert len(output) == len(found) == len(grouped) > 10
        for one, words in zip(grouped, output, strict=True):
            expected = (one.verdict, one.claim.place, one.claim.says, one.value, one.measured, one.command)
            assert all(re.sub(r"\s+", " ", part).strip() in words for part in expected)
        assert [claim.get_attribute("data-verdict") for claim in shown.all()] == [one.verdict for one in grouped]
    assert page.locator("#errata > ol > li").count() == len(paper.paper_errata()) == 14


def test_a_claim_opens_to_its_figure_its_table_its_command_and_its_csv(page: Page, tmp_path: Path) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    unfold(page)
    claim = page.locator("details.claim[data-stem='fig1_spiral']").first
    claim.locator("summary").first.click()
    figure = claim.get_by_role("img")
    assert figure.bounding_box()["width"] > 400 and len(figure.get_attribute("alt") or "") > 30  # type: ignore[index]
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
    unfold(page)
    for stem in drawn:
        claim = page.locator(f"details.claim[data-stem='{stem}']").first
        claim.locator("summary").first.click()
        until(page, f"document.querySelector('img[data-name={stem}][src]').naturalWidth > 100")


def test_tables_hold_the_csv_and_sort_by_numbers_and_by_words(page: Page) -> None:
    unfold(page)
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


def test_the_filter_works_by_mouse_and_by_keyboard_and_counts_agree(page: Page) -> None:
    unfold(page)
    seen = page.locator("details.claim:visible")
    everything = seen.count()

    def counts() -> dict[str, int]:
        labels = page.locator("#filter label.verdict").all()
        return {
            label.locator("input").get_attribute("value") or "": int(label.locator(".count").inner_text())
            for label in labels
        }

    assert sum(counts().values()) == everything
    box = page.get_by_label(re.compile("^ *fails"))
    box.click()
    verdicts = {one.get_attribute("data-verdict") for one in seen.all()}
    assert verdicts == {"holds", "undecided", "not run", "not testable here"}
    assert seen.count() == everything - counts()["fails"]
    box.press("Space")
    assert seen.count() == everything
    page.get_by_label("Find").press_sequentially("table 4")
    assert 3 < seen.count() < everything
    assert all("Table 4" in text for text in seen.all_text_contents())
    assert sum(counts().values()) == seen.count()
    tallies = [int(text.split()[0]) for text in page.locator(".group:visible .tally").all_text_contents()]
    assert sum(tallies) == seen.count()
    assert page.locator("#filter output").text_content() == f"{seen.count()} of {everything} shown"


@pytest.mark.parametrize("name", SLIDERS)
def test_sliders_work_by_mouse_and_by_keyboard(page: Page, name: str) -> None:
    slider, shown = page.locator(f"#{name}"), page.locator(f"#{name}-shown")
    before = page.locator("#decoded").inner_html(), shown.text_content()
    slider.press("End")
    settle(page)
    last = page.locator("#decoded").inner_html(), shown.text_content()
    assert last[0] != before[0] and last[1] != before[1]
    slider.press("ArrowLeft")
    settle(page)
    assert shown.text_content() != last[1]
    box = slider.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] - 4, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=3)
    settle(page)
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


def state(dim: int, seed: int, turns: float, activation: str, decoder: str) -> str:
    return f"dim={dim}&seed={seed}&turns={turns:g}&bias=0&activation={activation}&decoder={decoder}"


STATES = [state(*case) for case in CASES] + [
    "dim=5&seed=1&turns=3&bias=0.5&activation=relu&decoder=exact",
    "dim=7&seed=2&turns=2&bias=-0.7&activation=relu6&decoder=pinv",
    "dim=4&seed=3&turns=3&bias=0.3&activation=gelu&decoder=exact",
    "dim=5&seed=4&turns=3&bias=0&activation=relu&decoder=exact&rows=0:1.571,3:-0.4",
    "dim=6&seed=5&turns=3&bias=-0.2&activation=relu&decoder=affine&rows=2:3.1",
]
NUMBERS = {"preserved": "preserved", "lost": "lost", "error": "error", "seen": "code-said"}


@pytest.mark.parametrize("linked", STATES)
def test_a_link_opens_its_state_and_the_numbers_are_the_librarys(explorer: Page, linked: str) -> None:
    explorer.evaluate("(state) => { location.hash = `#explorer&${state}`; }", linked)
    settle(explorer)
    for key, value in library.page_numbers(linked).items():
        assert exact(explorer, NUMBERS[key]) == pytest.approx(value, rel=1e-6, abs=1e-9), key
    crosses = explorer.locator("#decoded path.lost").get_attribute("d") or ""
    assert bool(crosses) == (exact(explorer, "lost") > 0)
    layer, _ = library.layer_of(linked)
    chance = theory.active_probability(layer.x.norm(dim=1).numpy(), layer.bias, layer.activation.window or (0, 0))
    expected = float(theory.preserved_fraction(layer.y.shape[-1], 2, chance).mean())
    assert exact(explorer, "theory") == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_what_a_hand_sets_stands_in_the_address_and_a_command_gives_its_numbers(explorer: Page) -> None:
    put(explorer, activation="gelu", decoder="exact", dim=6, seed=3, turns=2.5, bias=0.4, point=123)
    until(explorer, "location.hash.includes('point=123')")
    address = explorer.evaluate("location.hash")
    for part in ("dim=6", "seed=3", "turns=2.5", "bias=0.4", "activation=gelu", "decoder=exact"):
        assert part in address
    command = explorer.locator("#command").text_content() or ""
    assert command.startswith("python -m manifold_lab.spiral --dims 6 --draws 1 --seed 3 --turns 2.5 --bias 0.4")
    explorer.locator("circle.handle").nth(2).press("ArrowLeft")
    settle(explorer)
    turned = explorer.locator("#command").text_content() or ""
    (inside,) = re.findall(r"numbers\('(.+)'\)", turned)
    assert library.page_numbers(inside)["error"] == pytest.approx(exact(explorer, "error"), rel=1e-6)


def test_a_row_is_dragged_and_a_point_is_followed(page: Page) -> None:
    handle, panel = page.locator("circle.handle").first, page.locator("#input")
    panel.scroll_into_view_if_needed()
    before, box = exact(page, "preserved"), panel.bounding_box()
    assert box
    grip = handle.bounding_box()
    assert grip
    page.mouse.move(grip["x"] + grip["width"] / 2, grip["y"] + grip["height"] / 2)
    page.mouse.down()
    for place in ((0.5, 0.1), (0.1, 0.5), (0.5, 0.9)):
        page.mouse.move(box["x"] + place[0] * box["width"], box["y"] + place[1] * box["height"], steps=3)
        settle(page)
    page.mouse.up()
    assert page.locator("#reset").is_visible()
    page.mouse.click(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    settle(page)
    assert int(page.locator("#point-shown").text_content() or "-1") < 100, "the spiral begins in the middle"
    page.locator("#reset").click()
    settle(page)
    assert exact(page, "preserved") == before


def test_the_distribution_over_draws_is_theory_s(explorer: Page) -> None:
    put(explorer, activation="relu", decoder="pinv", turns=3, bias=0, dim=5)
    until(explorer, "document.querySelector('#spread').dataset.mean !== undefined")
    explorer.wait_for_timeout(400)
    mean = float(explorer.locator("#spread").get_attribute("data-mean") or "nan")
    assert mean == pytest.approx(float(theory.preserved_fraction(5, 2)), abs=4 * 0.13 / 1000**0.5)


def test_first_sight_is_a_typical_draw_and_three_steps_lead_on(page: Page) -> None:
    assert exact(page, "preserved") == pytest.approx(13 / 16, abs=0.1)
    said = []
    for step in page.locator(".steps button").all():
        step.click()
        settle(page)
        said.append((page.locator("#step-said").text_content(), exact(page, "preserved"), exact(page, "error")))
    assert len({words for words, _, _ in said}) == 3
    (_, lossy, _), (_, whole, exactly), (_, same, bent) = said
    assert lossy < 0.7 and whole > 0.99 and whole == same
    assert exactly < 1e-6 and bent > 0.1


def test_play_runs_over_the_dims(page: Page) -> None:
    page.locator("#play").click()
    until(page, "Number(document.querySelector('#dim').value) >= 4")
    assert page.locator("#play").text_content() == "Stop"
    page.locator("#play").click()
    assert page.locator("#play").text_content() == "Play"


def test_every_activation_and_decoder_is_among_the_cases() -> None:
    assert {case[3] for case in CASES} == set(ACTIVATIONS) and {case[4] for case in CASES} == set(report_page.EXPLORED)


def test_scripts_are_those_of_the_page_alone(html: str, page: Page) -> None:
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', html)
    (scripts,) = re.findall(r"script-src ([^;]+)", unescape(policy))
    assert "unsafe" not in scripts and scripts.count("sha256-") == len(report_page.SCRIPTS)
    page.evaluate("""() => { const script = document.createElement('script');
        script.textContent = 'globalThis.foreign = true'; document.body.append(script); }""")
    assert page.evaluate("globalThis.foreign") is None
    page.wait_for_timeout(100)
    assert any("Content Security Policy" in said for said in HEARD)
    HEARD.clear()


def test_nothing_is_fetched_and_the_page_is_small(html: str) -> None:
    assert len(html.encode()) < MEGABYTES * 10**6
    assert not re.search(r"""(src|href)=["']?(https?:)?//|@import|url\((?!#)""", html)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_looks_and_accessibility(page: Page, scheme: str, size: dict[str, int], tmp_path: Path) -> None:
    page.set_viewport_size(size)  # type: ignore[arg-type]
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.reload()
    unfold(page)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(253, 253, 251)"
    assert dark == (scheme == "dark")
    page.locator("details.claim[data-stem='tab3_memory'] > summary").first.click()
    page.locator(".claims table").wait_for()  # exactly one, made once the claim has opened
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


COLOURS = """['--lost', '--measured', '--gap', '--ghost'].map(
    (name) => getComputedStyle(document.documentElement).getPropertyValue(name))"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_prints_light_and_without_controls(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="light")
    light = page.evaluate(COLOURS)
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    if scheme == "light":
        page.get_by_role("button", name="Dark").click()
    assert page.evaluate(COLOURS) != light
    page.emulate_media(media="print", color_scheme=scheme)  # type: ignore[arg-type]
    assert page.evaluate(COLOURS) == light
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".controls, .steps, #filter, #theme").locator("visible=true").count() == 0
    assert page.locator("details.claim > summary:visible").count() > 50
    until(page, "document.documentElement.dataset.figures === 'ready'")
    assert all(image.bounding_box()["height"] > 50 for image in page.locator(".on-paper img").all())  # type: ignore[index]
    assert page.pdf()[:4] == b"%PDF"


def test_the_server_listens_to_this_machine_alone_and_serves_one_page(html: str, page: Page, address: str) -> None:
    assert address.startswith("http://127.0.0.1:")
    assert page.request.get(f"{address}pyproject.toml").status == 404
    with pytest.raises(InputError, match="port: 70000 cannot be had"):
        report_page.server(html, 70000)


def test_the_command_writes_the_page(html: str, tmp_path: Path) -> None:
    run(ReportOptions(html=tmp_path / "out", root=ROOT))
    assert (tmp_path / "out" / "index.html").read_text(encoding="utf-8") == html


def test_the_answers_come_first_with_the_figure_of_the_cause(page: Page) -> None:
    shown = page.locator("#answers li > strong")
    assert [one.sentence(ROOT) for one in answers()] == [text.strip() for text in shown.all_text_contents()]
    until(page, "document.querySelector('#answers img').naturalWidth > 100")
    page.locator("#answers summary").first.click()
    cells = [cells for _, cells in report_page.answer_details(answers()[0], ROOT) if cells]
    assert [len(one) for one in cells] == [
        table.locator("tr").count() for table in page.locator("#answers table").all()
    ]
    said = page.locator("#answers details").first.locator("ul > li").all_text_contents()
    assert said == answers()[0].evidence(ROOT)
    assert page.locator("#answers").bounding_box()["y"] < page.locator("#explorer").bounding_box()["y"]  # type: ignore[index]


def test_an_answer_leads_to_its_claims_and_opens_them(page: Page) -> None:
    links = page.locator("#answers li > a")
    assert links.count() == sum(one.figure is None or one.figure == "" for one in answers()) > 3
    for place in range(links.count()):
        links.nth(place).click()
        name = str(links.nth(place).get_attribute("href")).removeprefix("#")
        target = page.locator(f"[id='{name}']")
        assert target.count() == 1 and abs(target.bounding_box()["y"]) < DESKTOP["height"]  # type: ignore[index]
        assert name == "errata" or target.get_attribute("open") is not None
