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
for (const table of document.querySelectorAll("table.sortable")) {
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

// Columns that tell nothing new are folded.
for (const row of document.querySelectorAll(".unfold")) {
  const button = row.querySelector("button");
  const table = document.getElementById(button.getAttribute("aria-controls"));
  const name = button.textContent;
  const fold = (folds) => {
    table.classList.toggle("folds", folds);
    button.setAttribute("aria-expanded", !folds);
    button.textContent = folds ? name : name.replace("show", "hide").replace("more ", "");
  };
  button.addEventListener("click", () => fold(button.getAttribute("aria-expanded") === "true"));
  row.hidden = false;
  fold(true);
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

// The same images by each: a window of the columns, and all of one image enlarged.
const gallery = document.getElementById("gallery");

if (gallery) {
  const lines = [...gallery.rows];
  const count = lines[0].cells.length - 1;
  const chooser = document.querySelector(".chooser");
  const zoom = document.getElementById("zoom");
  const pictureOf = (line, image) => line.cells[image + 1].querySelector("img");
  const thumbs = Array.from({ length: count }, (_, image) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(pictureOf(lines[0], image).cloneNode());
    button.addEventListener("click", () => look(image));
    return button;
  });
  let first = 0;
  let fitting = count;
  let enlarged = 0;

  const look = (image) => {
    first = Math.max(0, Math.min(image, count - fitting));
    const isSeen = (i) => i >= first && i < first + fitting;
    for (const line of lines) {
      [...line.cells].slice(1).forEach((cell, i) => { cell.hidden = !isSeen(i); });
    }
    thumbs.forEach((button, i) => button.setAttribute("aria-pressed", isSeen(i)));
    chooser.querySelector("output").textContent =
      `images ${first + 1} to ${Math.min(first + fitting, count)} of ${count}`;
    const [back, forth] = chooser.querySelectorAll("[data-step]");
    back.disabled = first === 0;
    forth.disabled = first + fitting >= count;
  };
  const fit = () => {
    const cell = lines[0].cells[first + 1].offsetWidth || 1;
    const room = gallery.parentElement.clientWidth - lines[0].cells[0].offsetWidth;
    fitting = Math.max(1, Math.min(count, Math.floor(room / cell)));
    look(first);
  };
  const enlarge = (image) => {
    enlarged = (image + count) % count;
    document.getElementById("zoom-title").textContent = `image ${enlarged + 1} of ${count}`;
    zoom.querySelector(".views").replaceChildren(...lines.map((line) => {
      const view = document.createElement("figure");
      const caption = document.createElement("figcaption");
      const score = line.cells[enlarged + 1].querySelector("small");
      caption.append(line.cells[0].firstChild.textContent.trim());
      if (score) caption.append(", ", score.textContent);
      view.append(pictureOf(line, enlarged).cloneNode(), caption);
      return view;
    }));
    if (!zoom.open) zoom.showModal();
  };

  chooser.querySelector(".thumbs").append(...thumbs);
  chooser.hidden = false;
  for (const button of chooser.querySelectorAll("[data-step]")) {
    button.addEventListener("click", () => look(first + button.dataset.step * fitting));
  }
  for (const button of zoom.querySelectorAll("[data-step]")) {
    button.addEventListener("click", () => enlarge(enlarged + Number(button.dataset.step)));
  }
  zoom.querySelector(".close").addEventListener("click", () => zoom.close());
  zoom.addEventListener("click", ({ target }) => { if (target === zoom) zoom.close(); });
  zoom.addEventListener("keydown", ({ key }) => {
    if (key === "ArrowLeft") enlarge(enlarged - 1);
    if (key === "ArrowRight") enlarge(enlarged + 1);
  });
  gallery.addEventListener("click", ({ target }) => {
    const cell = target.closest("th, td");
    if (cell?.cellIndex) enlarge(cell.cellIndex - 1);
  });
  new ResizeObserver(fit).observe(gallery.parentElement);
}

// Of the figures of a section, those of one metric.
for (const row of document.querySelectorAll(".choice")) {
  const select = row.querySelector("select");
  const figures = document.getElementById(select.getAttribute("aria-controls")).children;
  const choose = () => {
    for (const figure of figures) {
      figure.hidden = ![select.value, ""].includes(figure.dataset.metric);
    }
  };
  select.addEventListener("change", choose);
  row.hidden = false;
  choose();
}

// Figures, drawn when they come into sight. Plotly is unpacked when the first one does.
let library;

async function unpacked() {
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
  const script = document.createElement("script");
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

async function draw(place) {
  if (place.dataset.drawn) return;
  place.dataset.drawn = "yes";
  try {
    await (library ??= unpacked());
  } catch {
    place.textContent = "This browser is too old to draw figures.";
    return;
  }
  const { data, layout } = JSON.parse(document.getElementById(`${place.id}-data`).textContent);
  const least = layout.meta?.least_width ?? 0;
  if (least > place.clientWidth) { // what is narrower could not be read: one scrolls
    layout.width = least;
    place.tabIndex = 0;
  }
  if (matchMedia("(pointer: coarse)").matches) layout.dragmode = false; // a finger scrolls the page
  layout.font = { ...layout.font, color: ink() };
  await Plotly.newPlot(place, data, layout, {
    responsive: true,
    displaylogo: false,
    displayModeBar: layout.images ? false : "hover",
    // Of its own accord plotly offers to send the figure to its service as well.
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  });
  place.on("plotly_hover", ({ points, event }) => {
    const trial = trialOf(points[0]);
    if (trial && event) show(trial, event.clientX, event.clientY + 32);
  });
  place.on("plotly_unhover", hide);
  place.on("plotly_click", ({ points }) => { hide(); choose(trialOf(points[0])); });
}

function drawn() { return document.querySelectorAll(".plot[data-drawn]"); }

function ink() { return getComputedStyle(document.querySelector("footer")).color; }

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
