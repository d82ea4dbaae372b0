"use strict";
// Filter, figures, copying, light and dark.

const filter = document.getElementById("filter");
const allClaims = [...document.querySelectorAll(".claim")];
const allGroups = [...document.querySelectorAll(".group")];

// What is shown, and how many there are of each verdict among those that the phrase finds.
function applyFilter() {
  const boxes = [...filter.querySelectorAll("input[type=checkbox]")], found = new Map(boxes.map((box) => [box.value, 0]));
  const wanted = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
  const phrase = filter.elements.words.value.trim().toLowerCase();
  for (const claim of allClaims) {
    const { verdict } = claim.dataset, text = claim.firstElementChild.textContent.replace(/\s+/g, " ").toLowerCase();
    const fits = text.includes(phrase);
    if (fits) found.set(verdict, found.get(verdict) + 1);
    claim.hidden = !fits || !wanted.has(verdict);
  }
  for (const box of boxes) box.nextElementSibling.textContent = found.get(box.value);
  for (const group of allGroups) {
    const mine = [...group.querySelectorAll(".claim")], shown = mine.filter((claim) => !claim.hidden).length;
    group.hidden = !shown;
    group.querySelector(".tally").textContent = shown === mine.length ? `${shown}` : `${shown} of ${mine.length}`;
    if (phrase && shown) group.open = true;
  }
  const shown = allClaims.filter((claim) => !claim.hidden).length;
  filter.querySelector("output").textContent = `${shown} of ${allClaims.length} shown`;
}
filter.addEventListener("input", applyFilter);
filter.addEventListener("submit", (event) => event.preventDefault());
applyFilter();

// A drawing of the page as the address of an image, unpacked once; an image runs no scripts.
const drawings = new Map();
function drawingOf(name) {
  const unpack = async () => URL.createObjectURL(new Blob([await textOf(name)], { type: "image/svg+xml" }));
  if (!drawings.has(name)) drawings.set(name, unpack());
  return drawings.get(name);
}
async function showFigure(image) {
  if (image && !image.src) image.src = await drawingOf(image.dataset.name);
}

// The figures of the answers are there from the start.
for (const image of document.querySelectorAll("#answers img")) showFigure(image);

// The figure and the first table of a claim are opened with it.
for (const claim of allClaims) {
  claim.addEventListener("toggle", () => {
    const first = claim.querySelector("details.table");
    if (claim.open) showFigure(claim.querySelector("img"));
    if (claim.open && first && !claim.dataset.seen) first.open = true;
    claim.dataset.seen = "yes";
  });
}

// On paper every group is open, its figures below it: they are made ready when nothing else is to be done.
const onPaper = [...document.querySelectorAll(".on-paper img")];
const whenIdle = globalThis.requestIdleCallback ?? ((work) => setTimeout(work, 500));
addEventListener("load", () => whenIdle(() => onPaper.reduce((before, image) => before.then(() => showFigure(image)), Promise.resolve())
  .then(() => { document.documentElement.dataset.figures = "ready"; })));
let folded = [];
addEventListener("beforeprint", () => {
  folded = allGroups.filter((group) => !group.open);
  for (const group of folded) group.open = true;
});
addEventListener("afterprint", () => { for (const group of folded) group.open = false; });

// A link to a group opens it.
function openLinked() {
  const linked = document.getElementById(location.hash.slice(1));
  if (linked?.matches("details")) linked.open = true;
}
addEventListener("hashchange", openLinked);
openLinked();

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // a page opened from a file, or without permission
    const area = element("textarea", { readonly: "", "aria-hidden": "true" }, text);
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

document.addEventListener("click", async ({ target }) => {
  if (!target.matches(".copy")) return;
  await copyText(target.previousElementSibling.textContent);
  target.textContent = "Copied";
  target.focus();
  setTimeout(() => { target.textContent = "Copy"; }, 1500);
});

const themeButton = document.getElementById("theme");
const prefersDark = matchMedia("(prefers-color-scheme: dark)");

function showTheme(dark) {
  themeButton.setAttribute("aria-pressed", String(dark));
}
themeButton.addEventListener("click", () => {
  const dark = themeButton.getAttribute("aria-pressed") !== "true";
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  showTheme(dark);
});
showTheme(prefersDark.matches);
