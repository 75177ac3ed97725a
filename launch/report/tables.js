"use strict";
// Tables of the pages of results and of the documentation: a click on a heading sorts, another one turns the order round.
function keyOf(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.key === undefined ? cell.textContent.trim() : cell.dataset.key;
  const number = text.replace("−", "-").match(/^[-+]?(?:[\d,]*\.)?\d[\d,]*(?:e[-+]?\d+)?/i);  // it may have an interval, a unit
  return number ? Number(number[0].replace(/,/g, "")) : text.toLowerCase();
}
function compareKeys(a, b) {
  const last = key => key === "nan" || key === "-" || key === "";  // nothing to compare: at the end
  if (last(a) !== last(b)) return last(a) ? "last-a" : "last-b";
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}
function sortBy(table, column, heading) {
  const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  const body = table.tBodies[0];
  const rows = [...body.rows].map(row => [keyOf(row, column), row]);
  rows.sort(([a], [b]) => {
    const found = compareKeys(a, b);
    return found === "last-a" ? 1 : found === "last-b" ? -1 : sign * found;
  });
  body.append(...rows.map(([, row]) => row));
}
for (const table of document.querySelectorAll("table.sortable, .md-typeset table:not([class])")) {
  if (!table.tHead || table.tBodies.length !== 1) continue;
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    button.onclick = () => sortBy(table, column, heading);
    heading.replaceChildren(button);
  });
}

