// A person's photos: how they get here, what the model makes of one, and the way between two.
import { $, ask, isNumber, known, latest, picture, Refused, tell } from "./asking.js";
import { choose } from "./editor.js";
import { mark } from "./images.js";

const LARGE = 500_000;  // bytes; smaller files go as they are
const STEPS = 17, FRAME = 110;  // pictures on the way, milliseconds for each
const UNUSABLE = 415;
const still = matchMedia("(prefers-reduced-motion: reduce)");
const way = { images: [], by: 1, timer: null };

export const title = (name) => known.model.measures?.[name]?.title ?? name;

export function measured(name, value) {
  if (!isNumber(value)) return "not finite";
  return `${Number(value.toPrecision(3))} ${known.model.measures?.[name]?.unit ?? ""}`.trim();
}

const reconstruct = latest("photo-told", async function work(signal) {
  if (!$("photo").files.length) return;
  $("reconstruction").hidden = true;
  tell("photo-told", "Looking at the photo …", { by: work });
  const found = await send("v1/reconstruct?format=json", { photos: $("photo") }, signal);
  const made = picture(found.images[0]);
  $("seen").src = picture(found.photos[0]);
  $("made").src = made;
  const rows = Object.entries(found.metrics?.[0] ?? {}).map(([name, value]) => {
    const row = document.createElement("tr"), head = document.createElement("th");
    head.textContent = title(name);
    head.scope = "row";
    row.append(head);
    row.insertCell().textContent = measured(name, value);
    return row;
  });
  $("metrics").replaceChildren($("metrics").caption, ...rows);
  $("reconstruction").hidden = false;
  mark(-1);
  choose({ latent: found.latents[0], image: made, title: "The reconstruction of your photo", origin: null });
});

const interpolate = latest("between-told", async function work(signal) {
  const first = $("first"), second = $("second"), count = first.files.length + second.files.length;
  $("path").hidden = true;
  play(false);
  if (count < 2) {
    tell("between-told", count ? "Now the other photo." : "");
    return;
  }
  tell("between-told", "Looking at the photos …", { by: work });
  const found = await send(`v1/interpolate?format=json&steps=${STEPS}`, { first, second }, signal);
  way.images = found.images.map(picture);
  $("step").max = way.images.length - 1;
  $("path").hidden = false;
  go(0);
  play(!still.matches);
});

const keep = latest("between-told", async function work(signal) {
  tell("between-told", "Making the animation …", { by: work });
  const path = `v1/interpolate?format=webp&steps=${STEPS}`, photos = { first: $("first"), second: $("second") };
  const animation = await send(path, photos, signal, (answer) => answer.blob());
  const link = document.createElement("a");
  Object.assign(link, { href: URL.createObjectURL(animation), download: "way.webp" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
});

async function send(path, fields, signal, read) {
  const body = new FormData();
  for (const [name, field] of Object.entries(fields)) body.append(name, await small(field), field.files[0].name);
  return ask(path, { method: "POST", body, signal }, read);
}

// The photo itself, or, where it is large, as many pixels of it as the model can use: upright as its
// EXIF orientation says, transparent parts on white and colour profiles left out, as the service has it.
async function small(field) {
  const { image_shape: [, height, width], limits } = known.model;
  const whole = await field.files[0].arrayBuffer().then((bytes) => new Blob([bytes]), () => {
    field.value = "";  // or a browser sees no change when the same one is chosen
    throw new Refused("The photo cannot be read; choose it again.", UNUSABLE);
  });
  if (whole.size <= Math.min(LARGE, limits.max_bytes / 4)) return whole;
  const options = { imageOrientation: "from-image", colorSpaceConversion: "none" };
  const bitmap = await createImageBitmap(whole, options).catch(() => null);
  if (!bitmap) return fitting(whole);  // what this browser cannot show, such as HEIC, the service may know
  const enough = Math.max(1024, 4 * Math.max(height, width)), pixels = bitmap.width * bitmap.height;
  const scale = Math.min(1, enough / Math.min(bitmap.width, bitmap.height), Math.sqrt(limits.max_pixels / pixels));
  const canvas = document.createElement("canvas"), context = canvas.getContext("2d");
  canvas.width = Math.max(1, Math.floor(scale * bitmap.width));
  canvas.height = Math.max(1, Math.floor(scale * bitmap.height));
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const shrunk = await new Promise((done) => { canvas.toBlob(done, "image/jpeg", 0.95); });
  return fitting(shrunk && shrunk.size < whole.size ? shrunk : whole);
}

function fitting(photo) {
  const { max_bytes } = known.model.limits, size = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  if (photo.size < max_bytes) return photo;
  throw new Refused(`The photo has ${size(photo.size)}, and less than ${size(max_bytes)} is allowed.`, UNUSABLE);
}

function go(step) {
  $("step").value = step;
  $("step").setAttribute("aria-valuetext", `${step + 1} of ${way.images.length}`);
  $("frame").src = way.images[step];
}

// There and back, until somebody pauses it or takes the slider.
function play(on) {
  clearInterval(way.timer);
  way.timer = on ? setInterval(() => {
    const at = Number($("step").value);
    if (!way.images[at + way.by]) way.by = -way.by;
    go(at + way.by);
  }, FRAME) : null;
  $("play").textContent = on ? "Pause" : "Play";
}

function mind(input, work) { input.addEventListener("change", () => work({ now: true })); }

// Where a photo that is dropped goes: to the field it is dropped on, and from anywhere else to the first.
const fieldOf = (element) => element.closest?.("label.file")?.querySelector("input") ?? $("photo");

function light(input) {
  for (const label of document.querySelectorAll("label.file")) label.classList.toggle("over", label.contains(input));
}

function drop(event) {
  const input = fieldOf(event.target), [file] = event.dataTransfer.files;
  light(null);
  if (!file) return;
  const one = new DataTransfer();
  one.items.add(file);
  input.files = one.files;
  input.dispatchEvent(new Event("change"));
}

mind($("photo"), reconstruct);
mind($("first"), interpolate);
mind($("second"), interpolate);
$("step").addEventListener("input", () => { play(false); go(Number($("step").value)); });
$("play").addEventListener("click", () => play(way.timer === null));
$("keep").addEventListener("click", () => keep());
still.addEventListener("change", () => still.matches && play(false));
for (const [kind, act] of [["dragover", (event) => light(fieldOf(event.target))], ["drop", drop]]) {
  document.addEventListener(kind, (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();  // or the browser leaves the page for the photo
    if (!$("main").hidden) act(event);
  });
}
document.addEventListener("dragleave", (event) => event.relatedTarget || light(null));
