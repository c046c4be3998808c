// What a report does when it is touched. Without it everything but the figures can be read.
"use strict";

const pictures = JSON.parse(document.getElementById("pictures").textContent);
const rows = [...document.querySelectorAll("tr[data-trial]")];
const rowOf = new Map(rows.map((row) => [row.dataset.trial, row]));

// Light or dark, as the system says until the reader says otherwise.
{
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const label = () => { button.textContent = isDark() ? "light" : "dark"; };
  const changed = () => { label(); drawn().forEach((place) => Plotly.relayout(place, { "font.color": ink() })); };
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    changed();
  });
  system.addEventListener("change", changed);
  label();
}

// Tables: a heading sorts by its column, and the other way round when pressed again.
for (const table of document.querySelectorAll("table")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const ascending = heading.getAttribute("aria-sort") !== "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort((a, b) => compare(a, b, column, ascending)));
    });
  });
}

function compare(a, b, column, ascending) {
  const [x, y] = [a, b].map((row) => row.cells[column].dataset.sort);
  if (x === "" || y === "") return (x === "") - (y === ""); // nothing goes last
  const order = x - y || x.localeCompare(y, undefined, { numeric: true });
  return ascending ? order : -order;
}

// Trials: those that hold every word and have the status.
const words = document.getElementById("words");
const ofStatus = document.getElementById("of-status");

function filter() {
  const wanted = words.value.toLowerCase().split(/\s+/);
  let shown = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    const fits = wanted.every((word) => text.includes(word)) && [row.dataset.status, ""].includes(ofStatus.value);
    row.hidden = !fits;
    shown += fits;
  }
  document.getElementById("count").textContent = `${shown} of ${rows.length}`;
}

if (words) {
  words.form.addEventListener("input", filter);
  words.form.addEventListener("submit", (event) => event.preventDefault());
  filter();
}

function choose(trial) {
  const row = rowOf.get(trial);
  if (!row) return;
  if (row.hidden) { words.form.reset(); filter(); }
  rows.forEach((other) => other.classList.toggle("chosen", other === row));
  row.scrollIntoView({ block: "center" });
  row.querySelector("a, [tabindex]").focus({ preventScroll: true });
}

// The card: what a trial reconstructed, beside its point or its row.
const card = document.getElementById("card");

function show(trial, x, y) {
  if (!pictures[trial]) return;
  card.querySelector("img").src = pictures[trial];
  card.querySelector("p").textContent = `${trial}: held-out images above their reconstructions`;
  card.hidden = false;
  const { width, height } = card.getBoundingClientRect();
  const fits = x + 24 + width < innerWidth;
  card.style.left = `${fits ? x + 24 : Math.max(8, x - 24 - width)}px`;
  card.style.top = `${Math.max(8, Math.min(y + 16, innerHeight - height - 8))}px`;
}

function hide() { card.hidden = true; }

for (const row of rows) {
  const name = row.cells[0];
  name.addEventListener("mousemove", (event) => show(row.dataset.trial, event.clientX, event.clientY));
  name.addEventListener("mouseleave", hide);
  name.addEventListener("focusin", () => {
    const box = name.getBoundingClientRect();
    show(row.dataset.trial, box.right, box.top);
  });
  name.addEventListener("focusout", hide);
}
addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

// Figures, drawn when they come into sight.
async function draw(place) {
  if (place.dataset.drawn) return;
  place.dataset.drawn = "yes";
  const { data, layout } = JSON.parse(document.getElementById(`${place.id}-data`).textContent);
  if (layout.width) { // of pictures, which keep their shape
    const scale = Math.min(1, place.clientWidth / layout.width);
    layout.width *= scale;
    layout.height *= scale;
    place.style.minHeight = `${layout.height}px`;
  }
  layout.font = { ...layout.font, color: ink() };
  await Plotly.newPlot(place, data, layout, { responsive: true, displaylogo: false });
  place.on("plotly_hover", ({ points, event }) => {
    const trial = trialOf(points[0]);
    if (trial && event) show(trial, event.clientX, event.clientY + 32);
  });
  place.on("plotly_unhover", hide);
  place.on("plotly_click", ({ points }) => { hide(); choose(trialOf(points[0])); });
}

function drawn() { return document.querySelectorAll(".plot[data-drawn]"); }

function ink() { return getComputedStyle(document.documentElement).getPropertyValue("--soft"); }

function trialOf({ customdata }) {
  const first = Array.isArray(customdata) ? customdata[0] : customdata;
  return rowOf.has(first) ? first : null;
}

const places = document.querySelectorAll(".plot");
const inSight = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (isIntersecting) { inSight.unobserve(target); draw(target); }
  }
}, { rootMargin: "400px" });
places.forEach((place) => inSight.observe(place));
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((details) => { details.open = true; });
  places.forEach(draw);
});

// Commands.
for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const code = button.previousElementSibling;
    getSelection().selectAllChildren(code); // what is left where the clipboard is closed to pages
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
    } catch {
      button.textContent = "selected";
    }
  });
}
