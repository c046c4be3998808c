// What the page asks the service for, and how it tells what came of that, beside what caused it.
export const $ = (id) => document.getElementById(id);
export const known = { model: null };  // what /v1/model says
export const picture = (base64) => `data:image/png;base64,${base64}`;
export const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

const PAUSE = 40;  // milliseconds: 25 pictures a second are enough
const PATIENCE = 1000;  // milliseconds: then a person wants to know what is the matter
const SPARE_SECONDS = 10;  // beyond the service's own limit: then nobody is there
export const isToken = (text) => /^[\x21-\x7e]+$/.test(text);  // what a service may have as one
let token = recalled();

// A browser may forbid its storage: then the token lasts as long as the page.
function recalled() {
  try {
    const text = sessionStorage.getItem("token") ?? "";
    return isToken(text) ? text : null;
  } catch {
    return null;
  }
}

export function remember(text) {
  token = text;
  try { sessionStorage.setItem("token", text); } catch { /* see above */ }
}

export class Refused extends Error {
  // `again` says whether asking once more may help.
  constructor(message, status = 0) {
    super(message);
    this.status = status;
    this.again = [0, 408, 429].includes(status) || status >= 500;
  }
}

export async function ask(path, options = {}, read = (answer) => answer.json()) {
  const seconds = (known.model?.limits.timeout_seconds ?? 30) + SPARE_SECONDS;
  const signals = [AbortSignal.timeout(1000 * seconds), options.signal].filter(Boolean);
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, signal: AbortSignal.any(signals) });
    if (answer.ok) {
      compare(answer.headers.get("X-Model"));
      return await read(answer);
    }
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Refused("The server does not answer.");
  }
  throw new Refused(await reason(answer), answer.status);
}

// One service may run as many, and be renewed: what two models make does not belong together.
function compare(version) {
  if (!version || !known.model || version === known.model.version) return;
  tell("status", "The service has another model now: reload the page.", { bad: true });
}

// The service says why in JSON; what stands before it, such as a proxy, does not.
async function reason(answer) {
  const body = await answer.json().catch(() => null);
  const seconds = Number(answer.headers.get("Retry-After"));
  const later = seconds ? `; try again in ${seconds} s` : "";
  const text = typeof body?.detail === "string" ? body.detail : `the server answers ${answer.status}${later}`;
  return `${text[0]?.toUpperCase() ?? ""}${text.slice(1)}.`;
}

export const post = (path, body, signal) => ask(path, {
  signal, method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" },
});

const short = (value) => Number(value.toFixed(4));  // no eye sees more, and a request is shorter

export async function decode(points, signal) {
  const most = known.model.limits.max_images, images = [];
  for (let i = 0; i < points.length; i += most) {
    const latents = points.slice(i, i + most).map((point) => point.map(short));
    images.push(...(await post("v1/decode?format=json", { latents }, signal)).images);
  }
  return images.map(picture);
}

export function tell(place, text, { by = null, bad = false, again = null } = {}) {
  const told = $(place);
  told.teller = by;
  told.textContent = text;
  told.classList.toggle("bad", bad);
  if (!again) return;
  const button = document.createElement("button");
  Object.assign(button, { type: "button", className: "quiet", textContent: "Try again" });
  button.addEventListener("click", () => {
    told.tabIndex = -1;
    told.focus();  // the button goes, the place of the keyboard stays
    again({ now: true });
  });
  told.append(" ", button);
}

// Its own refusal gives way to it, another's does not, nor what the work itself says meanwhile.
function wait(place, work) {
  const isOwn = $(place).teller === work, isBad = $(place).classList.contains("bad");
  if (isOwn === isBad) tell(place, "Waiting for the server …", { by: work });
}

// What ends well, or is given up, takes back only its own message: another's refusal stays to be read.
async function attempt(place, work, signal, again) {
  const timer = setTimeout(wait, PATIENCE, place, work);
  try {
    await work(signal);
    if ($(place).teller === work) tell(place, "");
  } catch (error) {
    if (signal.aborted) {
      if ($(place).teller === work && !$(place).classList.contains("bad")) tell(place, "");
      return;
    }
    if (error.status === 401) {
      tell(place, "");
      document.dispatchEvent(new Event("locked"));
    } else if (error instanceof Refused) {
      tell(place, error.message, { by: work, bad: true, again: error.again ? again : null });
    } else {
      tell(place, "This page failed; reload it.", { by: work, bad: true });
      reportError(error);
    }
  } finally {
    clearTimeout(timer);
  }
}

// One request at a time, and of those that come meanwhile only the last. `now` gives up the one
// under way, whose answer is not wanted any more; `stop` gives up all. `retry` is what a click on
// "Try again" does.
export function latest(place, work, retry = null) {
  let running = null, waiting = false;
  async function again({ now = false } = {}) {
    waiting = true;
    if (now) running?.abort();
    if (running) return;
    do {
      waiting = false;
      running = new AbortController();
      await attempt(place, work, running.signal, retry ?? again);
      if (waiting) await new Promise((done) => { setTimeout(done, PAUSE); });
    } while (waiting);
    running = null;
  }
  again.stop = () => {
    waiting = false;
    running?.abort();
  };
  return again;
}
