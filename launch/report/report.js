"use strict";
// What a page of results does beside being read; without it the page shows all the same.

// parameters: only rows that hold all words that are searched for
const search = document.getElementById("search"), parameters = document.getElementById("parameters");
if (search) search.oninput = () => {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of parameters.tBodies[0].rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every(word => text.includes(word));
    shown += !row.hidden;
  }
  document.getElementById("found").textContent = words.length ? `${shown} of ${parameters.tBodies[0].rows.length}` : "";
};

// figures: hide a controller, name the nearest point, look closer
const tip = document.getElementById("tip"), band = document.getElementById("band");
const NEAR = 14;  // px from a point within which it is named
function interactive(figure, { parts, points }) {
  const svg = figure.querySelector("svg"), hidden = new Set();
  const whole = svg.getAttribute("viewBox");
  for (const button of figure.querySelectorAll(".choices button")) {
    button.onclick = () => {
      const name = button.dataset.name, hide = !hidden.has(name);
      hide ? hidden.add(name) : hidden.delete(name);
      button.setAttribute("aria-pressed", String(!hide));
      for (const id of parts[name] || []) {
        const part = document.getElementById(id);
        if (part) part.style.display = hide ? "none" : "";
      }
    };
  }
  let from = null;
  svg.addEventListener("pointerdown", event => {
    if (event.pointerType === "mouse" && event.button === 0) {
      from = [event.clientX, event.clientY];
      event.preventDefault();
    }
  });
  svg.addEventListener("pointermove", event => from ? drawBand(event) : name(event));
  svg.addEventListener("pointerdown", name);
  svg.addEventListener("pointerleave", () => { tip.hidden = true; });
  addEventListener("pointerup", event => {
    if (!from) return;
    const [x, y] = from;
    from = null;
    band.hidden = true;
    if (Math.abs(event.clientX - x) > 8 && Math.abs(event.clientY - y) > 8) {
      const a = inDrawing(Math.min(x, event.clientX), Math.min(y, event.clientY));
      const b = inDrawing(Math.max(x, event.clientX), Math.max(y, event.clientY));
      svg.setAttribute("viewBox", `${a.x} ${a.y} ${b.x - a.x} ${b.y - a.y}`);
    }
  });
  svg.addEventListener("dblclick", () => svg.setAttribute("viewBox", whole));
  function inDrawing(x, y) {
    return new DOMPoint(x, y).matrixTransform(svg.getScreenCTM().inverse());
  }
  function drawBand(event) {
    tip.hidden = true;
    band.hidden = false;
    band.style.left = Math.min(from[0], event.clientX) + "px";
    band.style.top = Math.min(from[1], event.clientY) + "px";
    band.style.width = Math.abs(event.clientX - from[0]) + "px";
    band.style.height = Math.abs(event.clientY - from[1]) + "px";
  }
  function name(event) {
    const ctm = svg.getScreenCTM();
    let best = null, least = event.pointerType === "mouse" ? NEAR : 2 * NEAR;
    for (const point of points) {
      const at = new DOMPoint(point[1], point[2]).matrixTransform(ctm);
      const far = Math.hypot(at.x - event.clientX, at.y - event.clientY);
      if (far < least && !hidden.has(point[0])) [best, least] = [point, far];
    }
    tip.hidden = !best;
    if (!best) return;
    tip.textContent = `${best[0]}: ${best[3]}`;
    tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 6) + "px";
    tip.style.top = event.clientY + 14 + "px";
  }
}
const drawings = JSON.parse(document.getElementById("points").textContent);
for (const figure of document.querySelectorAll("figure[data-number]")) {
  interactive(figure, drawings[Number(figure.dataset.number)]);
}
