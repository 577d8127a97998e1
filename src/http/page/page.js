// The page of an instance: incidents with their evidence, streams, mutes; drawn from the API.
// All text from outside goes into the document as text, never as markup.

const POLL_MS = 5000;
const HIDDEN_POLL_MS = 30000;
// The server says something every 15 s; after this long without a word what is shown may be old.
const STALE_MS = 20000;
const SILENT_MS = 40000;
const ROWS = 200;
const PAST = 50;
const DEFECTS_WITH_EVIDENCE = 3;

const $ = (selector, within = document) => within.querySelector(selector);

// ---- Building

/** An element with attributes (functions become listeners) and children (strings become text). */
function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(key, value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== ""));
  return node;
}

function icon(shape, kind = "") {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("class", `icon ${kind}`);
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `#${shape}`);
  svg.append(use);
  return svg;
}

/** Shape and word of the same kind: neither is alone. */
const sign = (shape, word, kind = shape) => make("span", { class: `word ${kind}` }, icon(shape), ` ${word}`);

/** Brings the children of `parent` in line with `items`; what did not change keeps its node, its focus and its film. */
function keep(parent, items, key, build) {
  parent.kept ??= new Map();
  const now = new Map();
  items.forEach((item, place) => {
    const text = JSON.stringify(item);
    const old = parent.kept.get(key(item));
    let node = old?.node;
    if (old?.text !== text) {
      const focus = old && old.node.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
      node = build(item, old?.node);
      old?.node.replaceWith(node);
      if (focus) node.querySelector(`[data-focus="${focus}"]`)?.focus();
    }
    now.set(key(item), { text, node });
    if (parent.children[place] !== node) parent.insertBefore(node, parent.children[place] ?? null);
  });
  for (const [id, { node }] of parent.kept) if (!now.has(id)) node.remove();
  parent.kept = now;
}

const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

// ---- Time, in the viewer's zone, which the page names

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dated = new Intl.DateTimeFormat("en-GB", { day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit" });

function zone() {
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone ?? "local time";
  const parts = new Intl.DateTimeFormat("en-GB", { timeZoneName: "longOffset" }).formatToParts(new Date());
  const offset = parts.find((part) => part.type === "timeZoneName")?.value.replace("GMT", "UTC");
  return name === offset ? name : `${name} (${offset})`;
}

function spoken(at) {
  const today = new Date().toDateString() === at.toDateString();
  return (today ? clock : dated).format(at);
}

function lasting(ms) {
  const secs = Math.max(0, Math.round(ms / 1000));
  if (secs < 60) return `${secs} s`;
  if (secs < 3600) return `${Math.floor(secs / 60)} min`;
  if (secs < 86400) return `${Math.floor(secs / 3600)} h ${Math.floor((secs % 3600) / 60)} min`;
  return `${Math.floor(secs / 86400)} d ${Math.floor((secs % 86400) / 3600)} h`;
}

function moment(utc) {
  const at = new Date(utc);
  return make("time", { datetime: utc, title: utc }, spoken(at));
}

/** A time and how long ago it is; the second part is brought up to date every second. */
function ago(utc) {
  const span = make("span", { "data-ago": utc });
  age(span);
  return make("span", {}, moment(utc), " (", span, ")");
}

function age(span) {
  const text = lasting(Date.now() - new Date(span.dataset.ago));
  if (span.textContent !== text) span.textContent = text;
}

// ---- Talking to the server

const token = () => sessionStorage.getItem("glasswatch.token");

class Refused extends Error {
  constructor(status, says) {
    super(says);
    this.status = status;
  }
}

async function call(path, { method = "GET", body, signal, accept = "application/json" } = {}) {
  const headers = { accept };
  if (token()) headers.authorization = `Bearer ${token()}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  const answer = await fetch(path, { method, headers, signal, cache: "no-store", body: body && JSON.stringify(body) });
  if (answer.status === 401) askForToken();
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Refused(answer.status, told.error ?? `the server answered ${answer.status}`);
  }
  return answer;
}

const json = async (path, options) => (await call(path, options)).json();

let heard = 0;
let streaming = false;
let timer = null;

function hear() {
  heard = Date.now();
  showConnection();
}

function showConnection() {
  const stale = Date.now() - heard > STALE_MS;
  const how = heard === 0 ? "connecting" : stale ? "stale" : streaming ? "live" : "polled";
  const place = $("#connection");
  if (place.dataset.how === how) return;
  place.dataset.how = how;
  const signs = {
    connecting: () => sign("connecting", "connecting", "dim"),
    live: () => sign("good", "live"),
    polled: () => sign("good", `live, asked every ${POLL_MS / 1000} s`),
    stale: () => sign("critical", `not connected: what is shown is from ${spoken(new Date(heard))} and may be old`),
  };
  place.replaceChildren(signs[how]());
}

function trouble(text) {
  const place = $("#trouble");
  place.hidden = text === "";
  if (place.textContent !== text) place.textContent = text;
}

let asked = null;

async function refresh() {
  clearTimeout(asked);
  asked = null;
  try {
    const past = $("#past").open ? `limit=${PAST}` : "open=true";
    const [incidents, streams, mutes] = await Promise.all([
      json(`/api/v1/incidents?${past}`),
      json("/api/v1/streams"),
      json("/api/v1/mutes"),
    ]);
    hear();
    trouble("");
    show(incidents, streams, mutes);
  } catch (error) {
    if (error instanceof Refused && error.status !== 401) trouble(`The server says: ${error.message}.`);
  }
  clearTimeout(timer);
  timer = setTimeout(refresh, document.hidden ? HIDDEN_POLL_MS : POLL_MS);
}

/** Soon, and once for many reasons. */
function refreshSoon() {
  asked ??= setTimeout(refresh, 150);
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Listens to server-sent events. Not by EventSource, which cannot send a token. */
async function follow() {
  for (let wait = 1000; ; wait = Math.min(2 * wait, 30000)) {
    const stop = new AbortController();
    let guard;
    const alive = () => {
      clearTimeout(guard);
      guard = setTimeout(() => stop.abort(), SILENT_MS);
    };
    try {
      alive();
      const answer = await call("/api/v1/events", { signal: stop.signal, accept: "text/event-stream" });
      streaming = true;
      wait = 500;
      refreshSoon();
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ""; ; ) {
        const { value, done } = await reader.read();
        if (done) break;
        alive();
        hear();
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        blocks.forEach(event);
      }
    } catch {
      // The next turn tries again; until then the page asks.
    }
    clearTimeout(guard);
    streaming = false;
    await pause(wait);
  }
}

function event(block) {
  const lines = block.split("\n");
  if (!lines.includes("event: incident")) return;
  const data = lines.filter((line) => line.startsWith("data: ")).map((line) => line.slice(6));
  const message = JSON.parse(data.join("\n"));
  if (message.quiet === null && ["raised", "resolved"].includes(message.news)) {
    const what = message.news === "raised" ? `New ${message.severity} incident` : "Over";
    $("#announcer").textContent = `${what}: ${message.title}`;
  }
  refreshSoon();
}

// ---- Incidents

const WHY_QUIET = {
  child: "part of a larger incident",
  input_lost: "the input is lost",
  muted: "muted",
  expected: "expected, in an announced break or on a known slate",
  held: "held, it may be one of many",
  told_lately: "told a short while ago",
};

function severity(word) {
  return sign(word, word);
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** What was measured; and what that means, where the title does not say it. */
function defectLine(defect, title) {
  const where = [defect.track, defect.member, defect.place].filter(Boolean).join(", ");
  const round = (value) => Number(value.toPrecision(4)).toString();
  const value = defect.value === null ? "" : `: ${round(defect.value)} ${defect.unit}, limit ${round(defect.limit)}`;
  return make("li", {}, title.includes(defect.says) ? "" : `${sentence(defect.says)}. `,
    make("span", { class: "dim" }, `${defect.detector}.${defect.rule}${where && ` on ${where}`}${value}${defect.end ? ", over" : ""}`));
}

function card(incident, old) {
  const told = incident.quiet === null;
  const own = incident.topic === "monitor";
  const several = `${incident.streams_bad} of ${incident.streams_total} streams`;
  const about = own ? "The monitor itself" : incident.stream === null ? several : `Stream ${incident.stream}`;
  const node = make("article", { class: `card is-${incident.severity}`, "data-incident": incident.incident_id, "aria-label": incident.title },
    make("p", { class: "line" },
      severity(incident.severity),
      make("span", {}, "since ", ago(incident.opened)),
      incident.acknowledged_by ? make("span", {}, icon("good", "good"), ` taken on by ${incident.acknowledged_by}`) : null,
      incident.defects.length && incident.defects.every((defect) => defect.end) ? make("span", {}, "nothing wrong at present") : null,
      told ? null : make("span", {}, `not told: ${WHY_QUIET[incident.quiet] ?? incident.quiet}`)),
    make("h3", {}, incident.title),
    incident.text ? make("p", {}, incident.text) : null,
    make("p", { class: "dim" }, `${about}: ${incident.topic}, ${incident.cause}${incident.times > 1 ? `; turned bad ${incident.times} times` : ""}`),
    incident.streams.length ? make("p", {}, `Streams: ${incident.streams.join(", ")}${incident.streams_bad > incident.streams.length ? ", …" : ""}`) : null,
    incident.defects.length ? make("ul", { class: "facts" }, ...incident.defects.map((defect) => defectLine(defect, incident.title))) : null);
  const evidence = old ? $(".evidence", old) : make("div", { class: "evidence" });
  node.append(evidence);
  exhibit(evidence, incident);
  const buttons = make("p", { class: "buttons" });
  if (!incident.acknowledged_by) {
    buttons.append(make("button", { class: "main", type: "button", "data-focus": "take", click: () => take(incident) }, "Acknowledge"));
  }
  // Whether alerts arrive is nothing to be silent about.
  if (!own) {
    buttons.append(make("button", { type: "button", "data-focus": "mute", click: () => mute(incident) }, "Mute…"));
    buttons.append(make("button", { type: "button", "data-focus": "wrong", click: () => sayFalse(incident) }, "False alarm…"));
  }
  node.append(buttons);
  return node;
}

// ---- Evidence

const PICTURES = {
  "last_good.jpg": ["Last good picture", 0],
  "first_bad.jpg": ["First bad picture", 1],
  "worst.jpg": ["Worst picture", 2],
  "clip.mp4": ["Clip of the input", 3],
  "clip.webm": ["Clip of the input", 3],
  "clip.mkv": ["Clip of the input", 3],
  "plot.svg": ["What was measured", 4],
  "sound.svg": ["Sound around it", 5],
};
const SHOWN = /\.(jpe?g|png|svg|mp4|webm|mkv)$/;
const CLIP = /\.(mp4|webm|mkv)$/;

/** Where a file can be shown from: with a token it has to be fetched, as pictures cannot send one. */
async function address(path) {
  if (!token()) return path;
  return URL.createObjectURL(await (await call(path, { accept: "*/*" })).blob());
}

async function figure({ path, file, says }) {
  const [title] = PICTURES[file] ?? [file];
  const from = await address(path);
  const alt = `${title}: ${sentence(says)}`;
  const view = CLIP.test(file)
    ? make("video", { src: from, controls: true, preload: "metadata", playsinline: true, "aria-label": alt })
    : make("img", { src: from, alt, loading: "lazy" });
  return make("figure", {}, view, make("figcaption", {}, title));
}

/** Sets that are served here; others lie in a bucket. */
const served = (sets) => sets.filter((set) => set.startsWith("evidence/"));

const url = (path) => `/api/v1/${path.split("/").map(encodeURIComponent).join("/")}`;

/** Shows what the sets of an incident hold, the worst defect's unfolded. They grow: a clip ends after its defect began. */
async function exhibit(place, incident) {
  const sets = incident.defects.slice(0, DEFECTS_WITH_EVIDENCE)
    .flatMap(({ evidence, says, start }) => served(evidence).map((set) => ({ set, says, start })));
  place.sets ??= new Map();
  for (const [at, { set, says, start }] of sets.entries()) {
    const { files } = await json(url(set)).catch(() => ({ files: [] }));
    const wanted = files.filter((file) => SHOWN.test(file))
      .sort((a, b) => (PICTURES[a]?.[1] ?? 9) - (PICTURES[b]?.[1] ?? 9) || (a < b ? -1 : 1));
    if (wanted.length === 0) continue;
    if (!place.sets.has(set)) {
      const node = make("details", { open: at === 0 },
        make("summary", {}, `Evidence: ${sentence(says)}, `, moment(start)), make("div", { class: "figures" }));
      place.sets.set(set, { node, figures: new Map() });
      place.append(node);
    }
    await fill(place.sets.get(set), wanted.map((file) => ({ path: `${url(set)}/${encodeURIComponent(file)}`, file, says })));
    if (wanted.includes("first_bad.jpg")) thumbnail(incident.stream, { path: `${url(set)}/first_bad.jpg`, start });
  }
}

async function fill({ node, figures }, files) {
  const grid = $(".figures", node);
  for (const [at, file] of files.entries()) {
    if (!figures.has(file.path)) figures.set(file.path, figure(file).catch(() => null));
    const shown = await figures.get(file.path);
    if (shown === null) figures.delete(file.path);
    else if (grid.children[at] !== shown) grid.insertBefore(shown, grid.children[at] ?? null);
  }
}

function thumbnail(stream, still) {
  if (stream === null || thumbs.get(stream)?.start >= still.start) return;
  thumbs.set(stream, still);
  showStreams();
}

/** Newest still of each stream with an open incident. */
const thumbs = new Map();

// ---- Streams

const STATES = {
  down: ["critical", 0],
  degraded: ["warning", 1],
  connecting: ["connecting", 2],
  running: ["good", 3],
  ended: ["ended", 4],
};
const SEVERITIES = ["info", "warning", "critical"];

const rank = (stream) => [STATES[stream.state]?.[1] ?? 2, -SEVERITIES.indexOf(stream.worst_severity)];

function failingFirst(a, b) {
  const [x, y] = [rank(a), rank(b)];
  return x[0] - y[0] || x[1] - y[1] || (a.id < b.id ? -1 : 1);
}

function row(stream) {
  const [shape] = STATES[stream.state] ?? ["connecting"];
  const kind = ["connecting", "ended"].includes(shape) ? "dim" : shape;
  const id = token() ? stream.id : make("a", { href: `/api/v1/streams/${stream.id}`, "data-focus": "id" }, stream.id);
  const name = stream.labels.name && stream.labels.name !== stream.id ? ` ${stream.labels.name}` : "";
  const open = stream.open_defects === 0 ? "none"
    : make("span", {}, severity(stream.worst_severity ?? "info"), ` ${stream.open_defects}`);
  const picture = make("th", { scope: "row", role: "rowheader" }, id, make("span", { class: "dim" }, name));
  const bad = stream.open_defects > 0 || stream.state === "down" ? thumbs.get(stream.id) : undefined;
  if (bad) {
    address(bad.path)
      .then((src) => picture.prepend(make("img", { class: "thumb", src, alt: `First bad picture of ${stream.id}`, loading: "lazy" })))
      .catch(() => {});
  }
  return make("tr", { role: "row" },
    make("td", { role: "cell", "data-of": "State" }, sign(shape, stream.state, kind), stream.cause ? ` (${stream.cause})` : ""),
    picture,
    make("td", { role: "cell", "data-of": "Open defects" }, open),
    make("td", { role: "cell", class: "last", "data-of": "Last picture" }));
}

function lastPicture(place, utc) {
  if (place.dataset.utc === String(utc)) return;
  place.dataset.utc = utc;
  place.replaceChildren(utc ? ago(utc) : "none yet");
}

let all = [];

function showStreams() {
  const failing = all.filter((stream) => rank(stream)[0] < 2 || stream.open_defects > 0).length;
  $("#streams-count").textContent = `${plural(all.length, "stream")}, ${failing} in trouble`;
  $("#find-label").hidden = all.length < 10;
  const words = $("#find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (stream) => {
    const text = `${stream.id} ${stream.state} ${Object.values(stream.labels).join(" ")}`.toLowerCase();
    return words.every((word) => text.includes(word));
  };
  const found = all.filter(fits);
  const shown = found.slice(0, ROWS);
  // The last picture is another one with every answer: no reason to draw the whole row anew.
  const settled = shown.map((stream) => ({ ...stream, last_picture_utc: undefined, thumb: thumbs.get(stream.id)?.path }));
  const rows = $("#streams tbody");
  keep(rows, settled, (stream) => stream.id, row);
  shown.forEach((stream, at) => lastPicture($(".last", rows.children[at]), stream.last_picture_utc));
  $("#streams-more").hidden = found.length <= ROWS;
  $("#streams-more").textContent = `and ${found.length - ROWS} more: search to see them`;
}

// ---- The rest of the page

function muteItem(entry) {
  const what = Object.entries(entry.matchers).map(([name, value]) => `${name}=${value}`).join(", ");
  return make("li", {}, make("strong", {}, what), ` until `, moment(entry.until), `: ${entry.reason} (${entry.author}) `,
    make("button", { type: "button", "data-focus": "end", "aria-label": `End the mute of ${what}`, click: () => end(entry) }, "End it"));
}

function pastItem(incident) {
  const took = lasting(new Date(incident.resolved ?? incident.at) - new Date(incident.opened));
  const sets = token() ? [] : incident.defects.flatMap((defect) => served(defect.evidence)).slice(0, DEFECTS_WITH_EVIDENCE);
  const links = sets.flatMap((set, at) => [" ", make("a", { href: url(set) }, sets.length > 1 ? `Evidence ${at + 1}` : "Evidence")]);
  return make("li", {}, severity(incident.severity), " ", moment(incident.opened), `, for ${took}: ${incident.title}`,
    incident.acknowledged_by ? ` Taken on by ${incident.acknowledged_by}.` : "",
    incident.quiet ? make("span", { class: "dim" }, ` Not told: ${WHY_QUIET[incident.quiet] ?? incident.quiet}.`) : "", ...links);
}

function show({ open, past }, { instance, unready, streams }, { mutes }) {
  // What changes with every answer is no change.
  const settled = open.map((incident) => ({ ...incident, at: undefined, message_id: undefined, news: undefined }));
  const told = settled.filter((incident) => incident.quiet === null);
  const quiet = settled.filter((incident) => incident.quiet !== null);
  const id = (incident) => incident.incident_id;
  keep($("#incidents > .cards"), told, id, card);
  keep($("#quiet .cards"), quiet, id, card);
  $("#incidents > .none").hidden = told.length > 0;
  $("#quiet").hidden = quiet.length === 0;
  $("#quiet .count").textContent = `(${quiet.length})`;
  $("#incidents-title").textContent = `Open incidents (${told.length})`;
  document.title = told.length ? `(${told.length}) Glasswatch` : "Glasswatch";
  $("#instance").textContent = instance;
  $("#health").replaceChildren(unready ? sign("critical", `not ready: ${unready}`) : sign("good", "ready"));

  all = streams.sort(failingFirst);
  showStreams();

  keep($("#mutes"), mutes, (entry) => entry.id, muteItem);
  $("#muting .none").hidden = mutes.length > 0;
  if ($("#past").open) {
    keep($("#past ul"), past, id, pastItem);
    $("#past .none").hidden = past.length > 0;
  }
}

/** Sets grow while an incident is open: looks again. */
function lookAgain() {
  for (const place of [$("#incidents > .cards"), $("#quiet .cards")]) {
    for (const { text, node } of place.kept?.values() ?? []) exhibit($(".evidence", node), JSON.parse(text));
  }
}

// ---- What a person does

const remembered = () => localStorage.getItem("glasswatch.name") ?? "";

/** Opens a form; `send` gets its fields, and what it throws is told in the form. */
function openForm(dialog, about, send) {
  const form = $("form", dialog);
  const says = $(".problem", form);
  says.textContent = "";
  if (about) $(".about", form).textContent = about;
  for (const name of ["by", "author"]) if (form.elements[name]) form.elements[name].value = remembered();
  const cancel = $(".cancel", form);
  if (cancel) cancel.onclick = () => dialog.close();
  form.onsubmit = async (submitted) => {
    submitted.preventDefault();
    const fields = Object.fromEntries(new FormData(form));
    const name = fields.by ?? fields.author;
    if (name) localStorage.setItem("glasswatch.name", name.trim());
    $("button.main", form).disabled = true;
    try {
      await send(fields);
      dialog.close();
    } catch (error) {
      says.textContent = error instanceof Refused ? `${error.message}.` : "The server cannot be reached.";
    }
    $("button.main", form).disabled = false;
    refreshSoon();
  };
  if (!dialog.open) dialog.showModal();
  const empty = [...form.elements].find((field) => field.required && !field.value);
  (empty ?? $("button.main", form)).focus();
}

function take(incident) {
  const path = `/api/v1/incidents/${encodeURIComponent(incident.incident_id)}/acknowledge`;
  openForm($("#take"), incident.title, ({ by }) => call(path, { method: "POST", body: { by: by.trim() } }));
}

function sayFalse(incident) {
  const path = `/api/v1/incidents/${encodeURIComponent(incident.incident_id)}/feedback`;
  const body = ({ by, note }) => ({ by: by.trim(), verdict: "false_alarm", note: note.trim() });
  openForm($("#wrong"), incident.title, (fields) => call(path, { method: "POST", body: body(fields) }));
}

/** What may be muted of an incident, the narrowest first. */
function choices(incident) {
  const labels = Object.entries(incident.labels).filter(([name]) => name !== "name");
  const shared = labels.map(([name, value]) => [`All streams with ${name}=${value}`, { [name]: value }]);
  if (incident.stream === null) {
    return shared.length ? shared : [["All streams of this instance", { stream: "*" }]];
  }
  return [
    [`Only “${incident.topic}” of stream ${incident.stream}`, { stream: incident.stream, topic: incident.topic }],
    [`Everything of stream ${incident.stream}`, { stream: incident.stream }],
    ...shared,
  ];
}

function mute(incident) {
  const dialog = $("#mute");
  const form = $("form", dialog);
  const [preview, confirm] = [$(".preview", form), $(".confirm", form)];
  const wanted = choices(incident);
  $(".choices", form).replaceChildren(...wanted.map(([says], at) =>
    make("label", {}, make("input", { type: "radio", name: "what", value: at, checked: at === 0 }), ` ${says}`)));
  const body = (fields) => ({
    matchers: wanted[Number(fields.what)][1],
    author: fields.author.trim(),
    reason: fields.reason.trim(),
    for_secs: Number(fields.for_secs),
  });
  form.elements.confirm.checked = false;
  const look = async () => {
    const fields = Object.fromEntries(new FormData(form));
    const asked = { ...body(fields), author: "-", reason: "-", preview: true };
    try {
      const { streams, streams_total } = await json("/api/v1/mutes", { method: "POST", body: asked });
      const some = streams.slice(0, 8).join(", ") + (streams.length > 8 ? ", …" : "");
      const every = streams.length >= streams_total;
      preview.textContent = `It hides ${every ? "every stream" : `${streams.length} of ${plural(streams_total, "stream")}`}: ${some}.`;
      confirm.hidden = !every;
      form.elements.confirm.required = every;
    } catch (error) {
      preview.textContent = `What it hides cannot be told: ${error.message}.`;
    }
  };
  form.onchange = (changed) => {
    if (["what", "for_secs"].includes(changed.target.name)) look();
  };
  form.elements.reason.value = "";
  openForm(dialog, incident.title, (fields) =>
    call("/api/v1/mutes", { method: "POST", body: { ...body(fields), confirm: fields.confirm === "on" } }));
  look();
}

async function end(entry) {
  try {
    await call(`/api/v1/mutes/${encodeURIComponent(entry.id)}`, { method: "DELETE" });
  } catch (error) {
    trouble(`The mute was not ended: ${error.message}.`);
  }
  refreshSoon();
}

function askForToken() {
  const dialog = $("#ask");
  if (dialog.open) return;
  const wrong = token() !== null;
  sessionStorage.removeItem("glasswatch.token");
  openForm(dialog, "", ({ token: given }) => {
    sessionStorage.setItem("glasswatch.token", given.trim());
    location.reload();
  });
  if (wrong) $(".problem", dialog).textContent = "This token is not taken.";
}

// ---- Beginning

$("#zone").textContent = zone();
// Links cannot send a token.
$("footer").hidden = token() !== null;
$("#find").addEventListener("input", showStreams);
$("#past").addEventListener("toggle", refreshSoon);
document.addEventListener("visibilitychange", () => document.hidden || refreshSoon());
setInterval(() => {
  showConnection();
  document.querySelectorAll("[data-ago]").forEach(age);
}, 1000);
setInterval(() => document.hidden || lookAgain(), 15000);
refresh();
follow();
