// The page as a whole: the model it shows, its token and its link.
import { $, ask, isNumber, isToken, known, latest, remember, tell } from "./asking.js";
import { change, chosen, reset, setUp } from "./editor.js";
import { anySeed, fresh, restore, wanted } from "./images.js";
import { measured, title } from "./photos.js";

const start = latest("status", async (signal) => {
  const model = await ask("v1/model", { signal });
  known.model = model;
  $("about").textContent = described(model);
  $("model").textContent = `model ${model.version}`;
  $("access").hidden = true;
  $("main").hidden = false;
  $("temperature").max = Math.min(2, model.limits.max_temperature);
  setUp(model.informative_units ?? []);
  follow(new URLSearchParams(location.search));
});

function described({ image_shape: [, height, width], latent_dim, data, loss, objective }) {
  const values = objective?.values ?? [];
  return [
    `${width}×${height}, ${latent_dim} latent unit${latent_dim === 1 ? "" : "s"}`,
    isNumber(data?.train) ? `trained on ${data.train} images of ${data.name}` : null,
    loss?.name ? `with ${loss.name}` : null,
    ...(objective?.names ?? []).map((name, i) => `${title(name)} ${measured(name, values[i])}`),
  ].filter(Boolean).join(", ");
}

// What a link says; anything in it that this model cannot have is left out, and told.
function follow(query) {
  const { latent_dim, limits, version } = known.model, left = [], said = [];
  const number = (name, otherwise, fits) => {
    const text = query.get(name), value = Number(text || NaN);
    if (fits(value)) return value;
    if (text !== null) left.push(`${name}=${text}`);
    return otherwise;
  };
  const seed = number("seed", anySeed(), (value) => Number.isSafeInteger(value) && value >= 0);
  const temperature = number("temperature", 1, (value) => value >= 0 && value <= $("temperature").max);
  const image = number("image", 1, (value) => Number.isInteger(value) && value >= 1 && value <= limits.max_images);
  const changes = [...new Set(query.keys())].filter((name) => /^z[0-9]{1,6}$/.test(name)).map((name) => {
    const unit = Number(name.slice(1));
    return [unit, number(name, null, (value) => unit < latent_dim && Math.abs(value) <= 100)];
  }).filter(([, value]) => value !== null);
  if (query.get("model") && !version.startsWith(query.get("model"))) {
    said.push("The link was made with another model: it leads to other images here.");
  }
  if (left.length) said.push(`Left out of the link, as this model cannot have it: ${left.join(", ").slice(0, 200)}`);
  if (said.length) tell("status", said.join(" "));
  restore({ seed, temperature, index: image - 1 }, () => change(changes));
}

function link() {
  const query = new URLSearchParams(chosen.origin ?? wanted);
  if (chosen.origin) for (const [unit, value] of chosen.changes) query.set(`z${unit}`, value);
  query.set("model", known.model.version.slice(0, 8));
  return `${location.origin}${location.pathname}?${query}`;
}

async function copy() {
  const aside = chosen.origin ? "" : "; your photo is not in it";
  $("link").hidden = true;
  try {
    await navigator.clipboard.writeText(link());
    tell("change-told", `Link copied${aside}.`);
  } catch {
    // Without TLS, or where somebody forbids it: a field to copy from.
    $("link").hidden = false;
    $("link").value = link();
    $("link").select();
    tell("change-told", `Copy the link from the field${aside}.`);
  }
}

function unlock(event) {
  event.preventDefault();
  const text = $("token").value.trim();
  const wrong = [...text].find((sign) => !isToken(sign));
  if (!isToken(text)) {
    tell("access-told", wrong === undefined ? "A token is needed." : wrong.trim()
      ? `A token has only the letters a to z, digits and plain signs, so «${wrong}» cannot be in it.`
      : "A token has no spaces.", { bad: true });
    $("token").setAttribute("aria-invalid", "true");
    return;
  }
  remember(text);
  $("access").dataset.tried = "yes";
  start({ now: true });
}

function locked() {
  const { tried } = $("access").dataset;
  $("about").textContent = "";
  $("access").hidden = false;
  tell("access-told", tried ? "That is not the token of this service." : "This service asks for a token.", { bad: Boolean(tried) });
  $("token").setAttribute("aria-invalid", String(Boolean(tried)));
  $("token").focus();
}

document.addEventListener("changed", () => {
  $("link").hidden = true;
  if (!$("change-told").teller) tell("change-told", "");
});
document.addEventListener("settled", () => history.replaceState(null, "", link()));
document.addEventListener("locked", locked);
document.addEventListener("keydown", (event) => {
  const plain = !event.ctrlKey && !event.metaKey && !event.altKey && !event.repeat;
  const types = event.target.matches("input:not([type=range], [type=file])");
  if (event.key === "r" && plain && !types && !$("main").hidden) fresh();
});
$("reset").addEventListener("click", reset);
$("copy").addEventListener("click", copy);
$("access").addEventListener("submit", unlock);
start();
