const $ = (id) => document.getElementById(id);
const picture = (base64) => `data:image/png;base64,${base64}`;
const state = { point: null, chosen: null, choices: 0, path: [], teller: null, measures: {} };

class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

async function call(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const answer = await fetch(path, { ...options, headers });
  const body = await answer.json();
  if (!answer.ok) throw new Refused(answer.status, body.detail);
  return body;
}

const post = (path, body) => call(path, {
  method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" },
});

function say(text, teller, bad = false) {
  state.teller = teller;
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

// What ends well takes back only its own message: another's refusal stays to be read.
async function attempt(work) {
  try {
    await work();
    if (state.teller === work) say("", null);
  } catch (error) {
    $("access").hidden = error.status !== 401;
    say(error instanceof Refused ? error.message : "The server does not answer.", work, true);
  }
}

// One request at a time, and of those that come meanwhile only the last.
function latest(work) {
  let running = false, waiting = false;
  return async () => {
    if (running) { waiting = true; return; }
    running = true;
    do { waiting = false; await attempt(work); } while (waiting);
    running = false;
  };
}

const draw = latest(async () => {
  const seed = Number($("seed").value), temperature = Number($("temperature").value);
  const { choices } = state;
  const found = await post("v1/generate?format=json", { count: 64, seed, temperature });
  $("grid").replaceChildren(...found.images.map((image, i) => {
    const button = document.createElement("button"), img = document.createElement("img");
    img.src = picture(image);
    img.alt = `Image ${i + 1}`;
    button.type = "button";
    button.dataset.index = i;
    button.append(img);
    button.addEventListener("click", () => choose(found.latents[i], i));
    return button;
  }));
  const query = new URLSearchParams({ seed, temperature });
  history.replaceState(null, "", `?${query}`);
  $("share").href = `?${query}`;
  // A photo, or an image, that was chosen meanwhile stays chosen.
  if (state.choices === choices) choose(found.latents[0], 0);
});

const preview = latest(async () => {
  const found = await post("v1/decode?format=json", { latents: [state.point] });
  $("preview").src = picture(found.images[0]);
});

function choose(latent, index) {
  state.chosen = latent;
  state.choices += 1;
  $("change").disabled = false;
  for (const button of $("grid").children) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.index) === index));
  }
  reset();
}

function reset() {
  state.point = [...state.chosen];
  for (const input of $("sliders").querySelectorAll("input")) show(input, state.point[input.dataset.unit]);
  preview();
}

function show(input, value) {
  // A photo's latents may lie beyond the ends.
  input.max = Math.max(SLIDER_END, Math.ceil(Math.abs(value)));
  input.min = -input.max;
  input.value = value;
  input.nextElementSibling.textContent = Number(value).toFixed(2);
}

const SLIDER_END = 4;

function slider({ unit, kl }) {
  const label = document.createElement("label"), input = document.createElement("input");
  label.textContent = `unit ${unit}`;
  label.title = kl === null ? "" : `${kl.toFixed(2)} nats per image`;
  Object.assign(input, { type: "range", min: -SLIDER_END, max: SLIDER_END, step: 0.05, value: 0 });
  input.dataset.unit = unit;
  input.addEventListener("input", () => {
    state.point[unit] = Number(input.value);
    input.nextElementSibling.textContent = state.point[unit].toFixed(2);
    preview();
  });
  label.append(input, document.createElement("output"));
  return label;
}

function form(files) {
  const body = new FormData();
  for (const [name, file] of Object.entries(files)) body.append(name, file);
  return { method: "POST", body };
}

function shown(name, value) {
  const unit = state.measures[name]?.unit ?? "";
  return value === null ? "not finite" : `${Number(value.toPrecision(3))} ${unit}`.trim();
}

const title = (name) => state.measures[name]?.title ?? name;

const reconstruct = latest(async function work() {
  const [file] = $("photo").files;
  if (!file) return;
  say("Looking at the photo …", work);
  const found = await call("v1/reconstruct?format=json", form({ photos: file }));
  $("seen").src = picture(found.photos[0]);
  $("made").src = picture(found.images[0]);
  const caption = $("metrics").caption;
  $("metrics").replaceChildren(caption, ...Object.entries(found.metrics[0]).map(([name, value]) => {
    const row = document.createElement("tr"), head = document.createElement("th");
    head.textContent = title(name);
    row.append(head);
    row.insertCell().textContent = shown(name, value);
    return row;
  }));
  $("reconstruction").hidden = false;
  choose(found.latents[0], -1);
});

const interpolate = latest(async function work() {
  const [first] = $("first").files, [second] = $("second").files;
  if (!first || !second) return;
  say("Looking at the photos …", work);
  const found = await call("v1/interpolate?format=json&steps=17", form({ first, second }));
  state.path = found.images;
  $("path").hidden = false;
  frame();
});

function frame() { $("frame").src = picture(state.path[Number($("step").value)]); }

function fresh() {
  $("seed").value = crypto.getRandomValues(new Uint32Array(1))[0] >>> 1;
  draw();
}

function temperature() { $("draw").querySelector("output").textContent = Number($("temperature").value).toFixed(2); }

async function load() {
  const model = await call("v1/model");
  const [channels, height, width] = model.image_shape;
  state.measures = model.measures;
  const objectives = model.objective?.names ?? [];
  $("about").textContent = [
    `${width}×${height}, ${model.latent_dim} latent units`,
    model.data ? `trained on ${model.data.train} images of ${model.data.name}` : null,
    model.loss ? `with ${model.loss.name}` : null,
    ...objectives.map((name, i) => `${title(name)} ${shown(name, model.objective.values[i] ?? null)}`),
  ].filter(Boolean).join(", ");
  $("model").textContent = `model ${model.version}`;
  $("sliders").replaceChildren(...model.informative_units.slice(0, 8).map(slider));
  const query = new URLSearchParams(location.search);
  if (query.has("temperature")) $("temperature").value = query.get("temperature");
  temperature();
  if (/^[0-9]{1,15}$/.test(query.get("seed") ?? "")) {
    $("seed").value = query.get("seed");
    draw();
  } else {
    fresh();
  }
}

const start = () => attempt(load);

$("refresh").addEventListener("click", fresh);
$("seed").addEventListener("change", () => $("seed").reportValidity() && draw());
// Enter in the seed is a change already; a second drawing would undo what was chosen meanwhile.
$("draw").addEventListener("submit", (event) => event.preventDefault());
$("temperature").addEventListener("input", () => { temperature(); draw(); });
$("reset").addEventListener("click", reset);
$("photo").addEventListener("change", reconstruct);
$("first").addEventListener("change", interpolate);
$("second").addEventListener("change", interpolate);
$("step").addEventListener("input", frame);
$("access").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", $("token").value);
  $("access").hidden = true;
  say("", null);
  start();
});
document.addEventListener("keydown", (event) => {
  const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
  if (event.key === "r" && plain && !event.target.matches("input:not([type=range])")) fresh();
});
start();
