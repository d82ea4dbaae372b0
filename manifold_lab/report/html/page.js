"use strict";
// Filter, copying, light and dark.

const filter = document.getElementById("filter");
const allClaims = [...document.querySelectorAll(".claim")];

function applyFilter() {
  const verdicts = new Set([...filter.querySelectorAll("input:checked")].map((box) => box.value));
  const phrase = filter.elements.words.value.trim().toLowerCase();
  for (const claim of allClaims) {
    const text = claim.firstElementChild.textContent.replace(/\s+/g, " ").toLowerCase();
    claim.hidden = !verdicts.has(claim.dataset.verdict) || !text.includes(phrase);
  }
  const shown = allClaims.filter((claim) => !claim.hidden).length;
  filter.querySelector("output").textContent = `${shown} of ${allClaims.length} shown`;
}
filter.addEventListener("input", applyFilter);
filter.addEventListener("submit", (event) => event.preventDefault());
applyFilter();

// A drawing of the page as the address of an image, made once.
const drawings = new Map();
function drawingOf(name) {
  if (!drawings.has(name)) {
    const { textContent, type } = document.querySelector(`script[type="image/svg+xml"][data-name="${name}"]`);
    drawings.set(name, URL.createObjectURL(new Blob([textContent], { type })));
  }
  return drawings.get(name);
}

// The figure and the first table of a claim are opened with it.
for (const claim of allClaims) {
  claim.addEventListener("toggle", () => {
    const figure = claim.querySelector("img"), first = claim.querySelector("details.table");
    if (claim.open && figure) figure.src = drawingOf(figure.dataset.name);
    if (claim.open && first && !claim.dataset.seen) first.open = true;
    claim.dataset.seen = "yes";
  });
}

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
