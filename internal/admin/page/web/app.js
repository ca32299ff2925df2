// The admin page: it asks the API beside it, and shows what it gets as text, never as markup.

import { filterTrace, startTrace, stopTrace } from "./trace.js";

const overviewEvery = 2000; // milliseconds
const listsEvery = 4000;
const points = 150; // of a chart: five minutes

const $ = (id) => document.getElementById(id);

// The token stays in this tab, for its other pages to come.
let token = sessionStorage.getItem("token") ?? "";

class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** Asks the API. A body makes it a POST; "" is a POST without one. */
async function ask(path, body) {
  const response = await fetch(path, request(body));
  if (response.ok) return response.json();
  const text = await response.json().then((e) => e.error, () => `${response.status} ${response.statusText}`);
  throw new Refused(response.status, text);
}

function request(body) {
  const headers = { "Sluice-Admin": "1" };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  return { method: body === undefined ? "GET" : "POST", headers, body: body ? JSON.stringify(body) : undefined, cache: "no-store" };
}

/** Makes an element with text, other elements, and properties. */
function make(tag, properties, ...content) {
  const e = Object.assign(document.createElement(tag), properties);
  e.append(...content);
  return e;
}

// Numbers for people.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumFractionDigits: 1, notation: "compact" });
const count = (n) => (Math.abs(n) < 10000 ? whole.format(n) : short.format(n));
const rate = (n) => (n > 0 && n < 10 ? n.toFixed(1) : count(n));
function bytes(n) {
  for (const unit of ["B", "KiB", "MiB"]) {
    if (n < 1024) return `${unit === "B" ? whole.format(n) : n.toFixed(1)} ${unit}`;
    n /= 1024;
  }
  return `${n.toFixed(2)} GiB`;
}
const micros = (n) => (n < 1000 ? `${n} µs` : `${(n / 1000).toFixed(1)} ms`);
function time(ms) {
  if (ms < 1000) return `${ms} ms`;
  const s = Math.floor(ms / 1000);
  if (s < 120) return `${s} s`;
  return s < 7200 ? `${Math.floor(s / 60)} min` : `${Math.floor(s / 3600)} h`;
}

// Charts.

const perSecond = (name) => (now, before) => before && now.time > before.time ? ((now.totals[name] - before.totals[name]) * 1000) / (now.time - before.time) : null;
const latency = (now, before) => {
  const n = before ? now.totals.timedEvents - before.totals.timedEvents : 0;
  return n > 0 ? Math.round(((now.totals.eventsSeconds - before.totals.eventsSeconds) * 1e6) / n) : null;
};
/** The part of the time in which a loop was busy, from 0 to 1; null if it is not known. */
function load(loop, now, before) {
  const last = before?.loops.find((l) => l.index === loop.index);
  return last && now.time > before.time ? Math.min(Math.max((loop.busyMs - last.busyMs) / (now.time - before.time), 0), 1) : null;
}
const percent = (n) => `${(100 * n).toFixed(0)}%`;
const slowest = (owners) => owners.reduce((max, o) => Math.max(max, o.delayMicros), 0);

const charts = [
  { name: "Deliveries per second", value: perSecond("deliveries"), show: rate },
  { name: "Events from services per second", value: perSecond("events"), show: rate },
  { name: "Messages from clients per second", value: perSecond("messages"), show: rate },
  { name: "Bytes to clients per second", value: perSecond("bytesOut"), show: bytes },
  { name: "Requests to services per second", value: perSecond("serviceRequests"), show: rate },
  { name: "Connections", value: (now) => now.connections.all, show: count },
  { name: "Memory in use", value: (now) => now.memory.live, show: bytes },
  { name: "Backlog of slow clients", value: (now) => now.now.backlogBytes, show: bytes },
  { name: "Load of the busiest event loop", value: (now, last) => (last ? Math.max(0, ...now.loops.map((l) => load(l, now, last))) : null), show: percent },
  { name: "Latency of events, average", value: latency, show: micros },
  { name: "Latency: wait for an event loop", value: (now) => slowest(now.loops), show: micros },
  { name: "Latency: wait for a cache shard", value: (now) => slowest(now.shards), show: micros },
];
for (const c of charts) {
  c.values = [];
  c.text = make("b", {}, "–");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${points - 1} 100`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", c.name);
  c.line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  svg.append(c.line);
  $("charts").append(make("figure", {}, make("figcaption", {}, make("span", {}, c.name), c.text), svg));
}

function draw(c, value) {
  if (value === null) return;
  c.text.textContent = c.show(value);
  c.values.push(value);
  if (c.values.length > points) c.values.shift();
  const top = Math.max(...c.values, 1e-9) * 1.1;
  const from = points - c.values.length;
  c.line.setAttribute("points", c.values.map((v, i) => `${from + i},${(100 - (100 * v) / top).toFixed(1)}`).join(" "));
}

// Tables: columns are a title and a function that returns the cell: a text, or an element. A
// column with "number" is aligned to the right.

function table(at, columns, rows, empty) {
  const head = make("tr", {}, ...columns.map((c) => make("th", { scope: "col", className: c.number ? "number" : "" }, c.title)));
  const body = rows.map((r) =>
    make("tr", {}, ...columns.map((c) => make("td", { className: (c.number ? "number" : "") + (c.bad?.(r) ? " bad" : "") }, c.cell(r) ?? ""))));
  if (!rows.length) body.push(make("tr", {}, make("td", { colSpan: columns.length }, empty)));
  at.replaceChildren(make("thead", {}, head), make("tbody", {}, ...body));
}

const column = (title, cell, more) => ({ title, cell: (r) => String(cell(r)), ...more });
const number = (title, cell, more) => column(title, cell, { number: true, ...more });

const link = (text, act) => make("button", { type: "button", className: "link", onclick: () => attempt(act) }, text);
const rid = (r) => (r.query ? `${r.name}?${r.query}` : r.name);

const resourceColumns = [
  { title: "Resource", cell: (r) => link(rid(r), () => showResource(r.name)) },
  number("Deliveries/s", (r) => rate(r.deliveries)),
  number("Subscribers", (r) => count(r.subscribers)),
  number("Loops", (r) => r.loops),
];
const connectionColumns = [
  { title: "Connection", cell: (c) => link(c.cid, () => showConnection(c.cid)) },
  column("Kind", (c) => c.kind),
  column("Address", (c) => c.remote),
  number("Queued", (c) => bytes(c.queued), { bad: (c) => c.slow }),
  number("Takes nothing for", (c) => (c.slow ? time(c.stalledMs) : "–")),
  number("Idle", (c) => time(c.idleMs)),
  number("Requests", (c) => c.requests),
  number("Subscriptions", (c) => count(c.subscriptions)),
  column("State", (c) => [c.state, c.slow && "slow", c.paused && "paused", c.throttled && "throttled"].filter(Boolean).join(", ")),
  column("Token", (c) => (c.token ? JSON.stringify(c.token) : c.hasToken ? "has one" : "–")),
];
const ownerColumns = [
  column("Owner", (o) => o.name),
  number("Answers after", (o) => (o.late ? "late" : micros(o.delayMicros)), { bad: (o) => o.late }),
  number("Load", (o) => (o.load === null ? "–" : percent(o.load))),
  number("Mailbox", (o) => count(o.mailbox)),
  number("Connections", (o) => (o.connections === undefined ? "–" : count(o.connections))),
  number("Topics", (o) => (o.topics === undefined ? "–" : count(o.topics))),
  number("Requests", (o) => (o.requests === undefined ? "–" : count(o.requests))),
];
const requestColumns = [
  number("Age", (r) => time(r.ageMs)),
  column("State", (r) => r.state, { bad: (r) => r.state === "queued" }),
  column("Request", (r) => r.type),
  column("Resource", (r) => r.rid),
  column("Method", (r) => r.method ?? ""),
  column("Waits for", (r) => r.subject ?? ""),
];
const allRequestColumns = [...requestColumns, column("Kind", (r) => r.client), { title: "Connection", cell: (r) => link(r.cid, () => showConnection(r.cid)) }];
const serviceColumns = [
  column("Service", (s) => s.name || "(others)"),
  number("Limit", (s) => s.limit),
  number("In flight", (s) => s.inFlight),
  number("Queued", (s) => count(s.queued), { bad: (s) => s.queued > 0 }),
  number("Timeouts", (s) => count(s.timeouts)),
];

// What is polled.

let before = null;

function show(o) {
  const uptime = before && o.uptimeMs < before.uptimeMs ? null : before; // null: it was started again
  for (const c of charts) draw(c, c.value(o, uptime));
  const loads = o.loops.map((l) => load(l, o, uptime));
  before = o;
  $("state").textContent = o.draining ? "draining" : o.notReady ? `not ready: ${o.notReady}` : "ready";
  $("state").dataset.state = o.draining || o.notReady ? "unready" : "ready";
  const limit = o.memory.limit ? ` of ${bytes(o.memory.limit)}` : "";
  $("about").textContent =
    `${o.version} · up ${time(o.uptimeMs)} · ${count(o.connections.webSocket)} WebSockets, ${count(o.connections.streams)} streams, ${count(o.connections.slow)} slow · ` +
    `${count(o.now.subscriptions)} subscriptions · ${count(o.now.resources)} resources, ${bytes(o.now.cacheBytes)} · memory ${bytes(o.memory.live)}${limit} (${o.memory.level})`;
  if (o.logLevel && document.activeElement !== $("level")) {
    $("level").value = o.logLevel;
    $("level").disabled = false;
  }
  const owners = [...o.loops.map((l, i) => ({ name: `event loop ${l.index}`, load: loads[i], ...l })), ...o.shards.map((s) => ({ name: `cache shard ${s.index}`, load: null, ...s }))];
  table($("owners"), ownerColumns, owners, "none has started");
  table($("services"), serviceColumns, o.services, "no request was sent yet");
}

async function lists() {
  const service = encodeURIComponent($("requests-service").value.trim());
  const [hot, slow, requests] = await Promise.all([ask("api/resources?limit=15"), ask("api/connections?limit=15"), ask(`api/requests?limit=15&service=${service}`)]);
  table($("hot"), resourceColumns, hot.resources, "no client is subscribed to anything");
  table($("slow"), connectionColumns, slow.connections, "no client is slow");
  table($("requests"), allRequestColumns, requests.requests, "none");
  $("requests").prepend(make("caption", {}, `${count(requests.matched)} of clients, ${count(requests.servicesMatched)} at services`));
}

/** Calls f again and again while the page is seen, one call after the other. */
function poll(f, every) {
  let running = false;
  const turn = async () => {
    if (running || document.hidden) return;
    running = true;
    try {
      await f();
      connected();
    } catch (error) {
      lost(error);
    } finally {
      running = false;
    }
  };
  document.addEventListener("visibilitychange", turn);
  setInterval(turn, every);
  return turn;
}

function connected() {
  $("login").hidden = true;
  document.querySelector("main").hidden = false;
}

function lost(error) {
  if (error.status === 401) {
    $("login").hidden = false;
    document.querySelector("main").hidden = true;
    $("state").textContent = "a token is needed";
    $("state").dataset.state = "lost";
    return;
  }
  $("state").textContent = error instanceof Refused ? error.message : "the gateway does not answer";
  $("state").dataset.state = "lost";
}

// Details.

function details(title, ...content) {
  $("details-title").textContent = title;
  $("details-body").replaceChildren(...content);
  $("details").hidden = false;
  $("details").scrollIntoView({ block: "nearest" });
}

function facts(...pairs) {
  return make("dl", {}, ...pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]));
}

function made(columns, rows, caption, empty) {
  const t = make("table");
  table(t, columns, rows, empty);
  t.prepend(make("caption", {}, caption));
  return t;
}

async function showConnection(cid, field = "") {
  const c = await ask(`api/connections/${encodeURIComponent(cid)}${field ? `?field=${encodeURIComponent(field)}` : ""}`);
  const subscriptions = [
    { title: "Resource", cell: (s) => link(s.rid, () => showResource(s.rid.split("?")[0])) },
    column("State", (s) => s.state),
    number("Direct", (s) => s.direct),
    number("Backlog", (s) => (s.conflated ? `${s.backlog} + difference` : s.backlog)),
    number("Lost", (s) => s.lost),
    column("Access", (s) => s.access),
    column("Calls", (s) => s.call ?? ""),
  ];
  const close = make("button", { type: "button", onclick: () => attempt(async () => {
    if (confirm(`Disconnect ${cid}?`)) say((await ask(`api/connections/${encodeURIComponent(cid)}/disconnect`, "")).done);
  }) }, "Disconnect");
  const refresh = make("button", { type: "button", onclick: () => attempt(() => showConnection(cid, field)) }, "Refresh");
  details(`Connection ${c.cid}`,
    facts(["Kind", `${c.kind}${c.tls ? ", TLS" : ""}, RES ${c.protocol}`], ["Address", c.remote], ["Event loop", c.loop], ["State", connectionColumns[8].cell(c)],
      ["Backlog", `${bytes(c.queued)} queued${c.slow ? `, takes nothing for ${time(c.stalledMs)}` : ""}`], ["Idle", time(c.idleMs)],
      ["Requests", c.requests], ["Token", connectionColumns[9].cell(c)]),
    made(requestColumns, c.inFlight, "Requests in progress", "none"),
    made(subscriptions, c.list, c.more ? `The first ${c.list.length} of ${c.subscriptions} subscriptions` : "Subscriptions", "none"),
    make("p", {}, refresh, " ", traceButton("cid", cid), " ", close));
}

function traceButton(by, what) {
  return make("button", { type: "button", onclick: () => {
    $("trace").scrollIntoView({ block: "nearest" });
    attempt(() => startTrace(by, what, request));
  } }, "Trace");
}

async function showResource(name) {
  const r = await ask(`api/resource?value=1&name=${encodeURIComponent(name)}`);
  const loops = [number("Event loop", (l) => l.loop), number("Subscribers", (l) => count(l.subscribers)), number("Deliveries/s", (l) => rate(l.deliveries))];
  const values = r.values.flatMap((v) => [
    make("h3", {}, rid({ name: r.name, query: v.query })),
    facts(["State", v.state], ["Value", v.kind ? `${v.kind} of ${count(v.entries)}, ${bytes(v.bytes)}` : "–"], ["Events/s", rate(v.events)],
      ["Last event", v.lastEvent ? `${v.lastEvent}, ${time(v.lastEventMs ?? 0)} ago` : "none"], ["Subscribers", count(v.subscribers)]),
    made(loops, v.loops, "Subscribers by event loop", "none"),
    ...(v.tooLong ? [make("p", {}, "The value is too long to be shown.")] : v.value === undefined ? [] : [make("pre", {}, JSON.stringify(v.value, null, 1))]),
  ]);
  const subscribers = make("button", { type: "button", onclick: () => attempt(() => find("resource", name)) }, "Its clients");
  const refresh = make("button", { type: "button", onclick: () => attempt(() => showResource(name)) }, "Refresh");
  details(`Resource ${r.name}`, make("p", {}, `${count(r.queries)} cached ${r.queries === 1 ? "value" : "values"}`), ...values, make("p", {}, refresh, " ", traceButton("resource", name), " ", subscribers));
}

async function find(by, what) {
  $("found").replaceChildren();
  if (by === "cid") return showConnection(what);
  if (by === "name") return showResource(what);
  const q = new URLSearchParams({ limit: "100", sort: "cid" });
  if (by === "field") {
    const at = what.indexOf("=");
    q.set("field", at < 0 ? what : what.slice(0, at));
    if (at >= 0) q.set("value", what.slice(at + 1));
  } else {
    q.set(by, what);
  }
  const list = await ask(`api/connections?${q}`);
  $("found").replaceChildren(made(connectionColumns, list.connections, `${count(list.matched)} found`, "no connection"));
}

// Actions.

function say(text, failed = false) {
  $("message").textContent = text;
  $("message").className = failed ? "error" : "";
}

async function attempt(f) {
  try {
    say("");
    await f();
  } catch (error) {
    say(error.message, true);
  }
}

function form(id, f) {
  $(id).addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(f);
  });
}

async function profile(kind) {
  say("taking the profile …");
  const response = await fetch(`debug/pprof/${kind}`, request());
  if (!response.ok) throw new Error(`the profile failed: ${response.status}`);
  const url = URL.createObjectURL(await response.blob());
  const name = kind.split("?")[0];
  make("a", { href: url, download: `sluice-${name}.${name === "trace" ? "out" : "pb.gz"}` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
  say(`${name}: open the file with go tool ${name === "trace" ? "trace" : "pprof"}`);
}

form("find", () => find($("find-by").value, $("find-what").value.trim()));
form("reset", async () => say((await ask("api/reset", { resources: [$("reset-pattern").value.trim()] })).done));
form("flush", async () => {
  const f = await ask("api/flush", { name: $("flush-name").value.trim() });
  say(`flushed: ${f.evicted} evicted, ${f.refetched} fetched again`);
});
form("trace-form", () => startTrace($("trace-by").value, $("trace-what").value.trim(), request));
$("trace-stop").addEventListener("click", stopTrace);
$("trace-filter").addEventListener("input", filterTrace);
form("profile", () => profile($("profile-kind").value));
$("level").addEventListener("change", () => attempt(async () => say(`log level: ${(await ask("api/log", { level: $("level").value })).level}`)));

const askOverview = poll(async () => show(await ask("api/overview")), overviewEvery);
const askLists = poll(lists, listsEvery);
$("requests-service").addEventListener("change", () => attempt(lists));
form("login", async () => {
  token = $("token").value.trim();
  try {
    await ask("api/overview");
    sessionStorage.setItem("token", token);
    $("login-error").textContent = "";
    askOverview();
    askLists();
  } catch (error) {
    token = "";
    $("login-error").textContent = error.message;
  }
});
askOverview();
askLists();
