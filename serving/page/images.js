// New images: the seed and the temperature they are drawn with, and the grid to choose one from.
import { $, known, latest, picture, post } from "./asking.js";
import { choose, chosen } from "./editor.js";

const MANY = 64, FEW = 16;
const narrow = matchMedia("(max-width: 40rem)");
export const wanted = { seed: 0, temperature: 1 };
let latents = [], drawn = {}, picked = 0, then = null;

export const draw = latest("draw-told", async (signal) => {
  const { seed, temperature } = wanted, { count } = chosen, index = then?.index ?? picked;
  const wish = Math.max(narrow.matches ? FEW : MANY, index + 1);
  const most = Math.min(wish, known.model.limits.max_images);
  const found = await post("v1/generate?format=json", { count: most, seed, temperature }, signal);
  latents = found.latents;
  drawn = { seed, temperature };
  fill(found.images);
  $("drawn").textContent = `${latents.length} new images of seed ${seed}`;
  // What was chosen meanwhile, a photo, and what is here again stay chosen, with their changes.
  const { origin } = chosen, isHere = count && origin?.seed === seed && origin.temperature === temperature;
  if (isHere && origin.image <= latents.length) mark(origin.image - 1);
  else if (chosen.count !== count || (count && !origin)) mark(-1);
  else pick(Math.min(index, latents.length - 1));
  then?.chosen();
  then = null;
});

// Draw what a link says; `after` is called once its image is chosen.
export function restore({ seed, temperature, index }, after) {
  Object.assign(wanted, { seed, temperature });
  $("seed").value = seed;
  $("temperature").value = temperature;
  write();
  then = { index, chosen: after };
  chosen.count = 0;
  draw({ now: true });
}

export const anySeed = () => crypto.getRandomValues(new Uint32Array(1))[0] >>> 1;

export function fresh() { sow(anySeed()); }

function sow(seed) {
  wanted.seed = seed;
  $("seed").value = seed;
  then = null;
  if (narrow.matches && picked >= FEW) picked = 0;
  draw({ now: true });
}

export function pick(index) {
  const image = $("grid").children[index].firstChild.src;
  picked = index;
  mark(index);
  choose({ latent: latents[index], image, title: `Image ${index + 1}`, origin: { ...drawn, image: index + 1 } });
}

// Of the grid one cell is in the order of tabs, and arrows lead to the others.
export function mark(index) {
  [...$("grid").children].forEach((cell, i) => {
    cell.setAttribute("aria-checked", String(i === index));
    cell.tabIndex = i === Math.max(index, 0) ? 0 : -1;
  });
}

// Cells are kept, and with them the place of the keyboard.
function fill(images) {
  const grid = $("grid");
  while (grid.children.length > images.length) grid.lastChild.remove();
  while (grid.children.length < images.length) grid.append(cell(grid.children.length));
  images.forEach((image, i) => { grid.children[i].firstChild.src = picture(image); });
}

function cell(index) {
  const button = document.createElement("button"), img = document.createElement("img");
  img.alt = `Image ${index + 1}`;
  button.type = "button";
  button.setAttribute("role", "radio");
  button.append(img);
  button.addEventListener("click", () => pick(index));
  return button;
}

function turn(event) {
  const cells = [...$("grid").children], at = cells.indexOf(document.activeElement);
  const columns = getComputedStyle($("grid")).gridTemplateColumns.split(" ").length;
  const to = {
    ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - columns, ArrowDown: at + columns,
    Home: 0, End: cells.length - 1,
  }[event.key];
  if (to === undefined || at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  if (!cells[to]) return;
  cells[to].focus();
  pick(to);
}

const write = () => { $("draw").querySelector("output").textContent = wanted.temperature.toFixed(2); };

$("refresh").addEventListener("click", fresh);
// Enter in the seed is a change already; a second drawing would undo what was chosen meanwhile.
$("draw").addEventListener("submit", (event) => event.preventDefault());
$("seed").addEventListener("change", () => {
  const seed = Number($("seed").value), most = Number.MAX_SAFE_INTEGER;
  $("seed").setCustomValidity(seed > most ? `${most} is the largest seed.` : "");
  if ($("seed").reportValidity()) sow(seed);
});
$("temperature").addEventListener("input", () => {
  wanted.temperature = Number($("temperature").value);
  write();
  draw();
});
$("grid").addEventListener("keydown", turn);
narrow.addEventListener("change", () => latents.length && draw({ now: true }));
