// The chosen image, what the sliders make of it, and where each of them leads.
import { $, decode, isNumber, latest } from "./asking.js";

const UNITS = 8, CELLS = 7, END = 3;  // sliders, pictures in each, standard deviations to either side
const CALM = 150;  // milliseconds without a change before the strips are drawn again
const rows = [];
let timer = null, isSeen = false, isStale = false;

// `origin` is where it comes from, for the link: null for a photo, which no link can hold.
export const chosen = { latent: null, image: "", title: "", origin: null, point: null, changes: new Map(), count: 0 };

export function choose({ latent, image, title, origin }) {
  Object.assign(chosen, { latent, image, title, origin, count: chosen.count + 1 });
  $("change").disabled = false;
  reset();
}

export function reset() {
  preview.stop();
  chosen.point = [...chosen.latent];
  chosen.changes.clear();
  show(chosen.image);
  rows.forEach(place);
  settle();
}

// As a link has it: units and their values.
export function change(changes) {
  for (const [unit, value] of changes) set(unit, value);
  if (!changes.length) return;
  rows.forEach(place);
  preview();
  settle();
}

export function setUp(units) {
  rows.splice(0, rows.length, ...units.slice(0, UNITS).map(row));
  $("sliders").replaceChildren(...rows.map((one) => one.element));
  $("reset").hidden = !rows.length;
}

const preview = latest("change-told", async (signal) => show((await decode([chosen.point], signal))[0]), again);

const strips = latest("change-told", async (signal) => {
  const points = rows.flatMap(({ unit, input }) => Array.from({ length: CELLS }, (_, i) => {
    return chosen.point.with(unit, Number(input.max) * (2 * i / (CELLS - 1) - 1));
  }));
  const images = await decode(points, signal);
  const cells = rows.flatMap(({ element }) => [...element.querySelectorAll("img")]);
  cells.forEach((cell, i) => { cell.src = images[i]; });
  isStale = false;
}, again);

function again(how) {
  preview(how);
  strips(how);
}

// What follows once the hand rests: the strips, where they are in view, and the link.
function settle() {
  strips.stop();
  isStale = rows.length > 0;
  clearTimeout(timer);
  timer = setTimeout(() => {
    if (isStale && isSeen) strips();
    document.dispatchEvent(new Event("settled"));
  }, CALM);
  document.dispatchEvent(new Event("changed"));
}

new IntersectionObserver(([entry]) => {
  isSeen = entry.isIntersecting;
  if (isStale && isSeen) strips();
}, { rootMargin: "50%" }).observe($("sliders"));

function set(unit, value) {
  chosen.point[unit] = value;
  chosen.changes.set(unit, value);
}

function show(image) {
  const { title, changes, origin } = chosen, name = origin ? `seed-${origin.seed}-image-${origin.image}` : "photo";
  $("preview").src = $("download").href = image;
  $("preview").alt = changes.size ? `${title}, changed` : title;
  $("download").download = `${name}${changes.size ? "-changed" : ""}.png`;
}

function row({ unit, kl }) {
  const element = document.createElement("div"), strip = document.createElement("div");
  const input = document.createElement("input"), output = document.createElement("output");
  const made = { unit, element, input, output };
  element.className = "unit";
  element.title = `Latent unit ${unit}${isNumber(kl) ? `: ${kl.toFixed(2)} nats per image` : ""}`;
  strip.className = "strip";
  strip.append(...Array.from({ length: CELLS }, () => Object.assign(document.createElement("img"), { alt: "" })), input);
  Object.assign(input, { type: "range", step: 0.05, min: -END, max: END, value: 0 });
  input.setAttribute("aria-label", `Latent unit ${unit}`);
  input.addEventListener("input", () => {
    set(unit, Number(input.value));
    write(made, Number(input.value));
    preview();
  });
  input.addEventListener("change", settle);
  element.append(strip, output);
  return made;
}

// A photo's latents may lie beyond the ends, which then move.
function place(one) {
  const value = chosen.point[one.unit], end = Math.max(END, Math.ceil(Math.abs(value)));
  Object.assign(one.input, { min: -end, max: end, value });
  write(one, value);
}

function write({ input, output }, value) {
  const text = (Math.round(100 * value) / 100 + 0).toFixed(2);  // of -0.001, too, it is 0.00
  output.textContent = text;
  input.setAttribute("aria-valuetext", text);
}
