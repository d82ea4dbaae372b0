"use strict";
// Csv files of the page as sortable tables.

const stored = new Map([...document.querySelectorAll("script[data-name]")].map((script) => [script.dataset.name, script.textContent]));

// A file, which the page carries packed.
function textOf(name) {
  const bytes = Uint8Array.from(atob(stored.get(name)), (letter) => letter.charCodeAt(0));
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(unpacked).text();
}

// Rows of cells; quotes as in RFC 4180.
function parseCsv(text) {
  const rows = [[]];
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\n]*))(,|\n|$)/g)) {
    if (!end && quoted === undefined && !plain && !rows.at(-1).length) break;
    rows.at(-1).push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end === "\n") rows.push([]);
    if (!end) break;
  }
  return rows.filter((row) => row.length);
}

const isNumber = (cell) => cell !== "" && Number.isFinite(Number(cell));

// Numbers by size, then words by letters, what is empty last.
function compareCells(a, b) {
  if (isNumber(a) && isNumber(b)) return Number(a) - Number(b);
  return (a === "") - (b === "") || isNumber(b) - isNumber(a) || a.localeCompare(b);
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function sortBy(table, column) {
  const heads = [...table.tHead.rows[0].cells];
  const up = heads[column].getAttribute("aria-sort") !== "ascending";
  heads.forEach((head, place) => head.setAttribute("aria-sort", place !== column ? "none" : up ? "ascending" : "descending"));
  const text = (row) => row.cells[column].textContent;
  const empty = (row) => text(row) === "";
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => empty(a) - empty(b) || (up ? 1 : -1) * compareCells(text(a), text(b)));
  table.tBodies[0].append(...rows);
}

// A csv file as a table without the columns that are empty all the way down.
function tableOf(name, text) {
  const [head, ...body] = parseCsv(text);
  const used = head.map((_, column) => column).filter((column) => body.some((row) => row[column] !== ""));
  const caption = element("caption", {}, `${name}, ${body.length} rows; a click on a column sorts`);
  const words = head.map((_, column) => body.some((row) => row[column] !== "" && !isNumber(row[column])));
  const look = (column, text) => (words[column] ? { class: text.length > 40 ? "words long" : "words" } : {});
  const heads = used.map((column) => element("th", { scope: "col", "aria-sort": "none", ...look(column, "") }, element("button", { type: "button" }, head[column])));
  const rows = body.map((row) => element("tr", {}, ...used.map((column) => element("td", look(column, row[column]), row[column]))));
  const table = element("table", {}, caption, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows));
  heads.forEach((th, column) => th.firstChild.addEventListener("click", () => sortBy(table, column)));
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": name }, table);
}

function downloadOf(name, text) {
  const href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  return element("a", { class: "download", download: name, href }, `Download ${name}`);
}

for (const details of document.querySelectorAll("details.table")) {
  const fill = async () => {
    const { name } = details.dataset;
    const text = await textOf(name);
    details.append(tableOf(name, text), downloadOf(name, text));
  };
  let filled;
  details.addEventListener("toggle", () => {
    if (details.open) filled ??= fill();
  });
}
