// The live trace: it reads the lines of a trace as they come, and shows the latest.

const most = 1000; // lines that stay

const $ = (id) => document.getElementById(id);

let reading = null; // AbortController of the trace that is on
let arrived = []; // lines that wait for the next frame

/** Starts a trace by "cid" or "resource". request makes the options of a fetch. */
export async function startTrace(by, what, request) {
  stopTrace();
  $("trace-by").value = by;
  $("trace-what").value = what;
  $("trace-lines").tBodies[0].replaceChildren();
  const mine = (reading = new AbortController());
  show("starting", true);
  try {
    const q = new URLSearchParams({ [by]: what, seconds: $("trace-seconds").value });
    const response = await fetch(`api/trace?${q}`, { ...request(), signal: mine.signal });
    if (!response.ok) throw new Error(await response.json().then((e) => e.error, () => `${response.status} ${response.statusText}`));
    await read(response.body.pipeThrough(new TextDecoderStream()).getReader());
  } catch (error) {
    if (mine.signal.aborted) return; // stopTrace has said so
    show("failed", false);
    throw error;
  }
  if (reading === mine) {
    reading = null;
    if ($("trace").dataset.state === "on") show("the gateway has ended the trace", false);
  }
}

/** Ends the trace that is on. The gateway notices that its reader has gone. */
export function stopTrace() {
  reading?.abort();
  if (reading) show("stopped", false);
  reading = null;
}

/** Shows only lines with a text in them. */
export function filterTrace() {
  for (const row of $("trace-lines").tBodies[0].rows) hide(row);
}

function hide(row) {
  row.hidden = !row.textContent.toLowerCase().includes($("trace-filter").value.trim().toLowerCase());
}

function show(text, on) {
  $("trace-state").textContent = text;
  $("trace").dataset.state = on ? "on" : "off";
  $("trace-stop").disabled = !on;
}

async function read(lines) {
  let rest = "";
  for (;;) {
    const { value, done } = await lines.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) take(JSON.parse(part));
  }
}

function take(line) {
  if (line.kind === "status" || line.kind === "end") {
    const missing = [line.omitted && `${line.omitted} omitted`, line.lost && `${line.lost} lost`].filter(Boolean).join(", ");
    const state = line.kind === "end" ? `ended: ${line.reason}` : `on, ${Math.ceil((line.leftMs ?? 0) / 1000)} s left`;
    show(missing ? `${state}; ${missing}` : state, line.kind === "status");
    return;
  }
  arrived.push(line);
  if (arrived.length > most) arrived.shift();
  if (arrived.length === 1) requestAnimationFrame(draw);
}

function draw() {
  const body = $("trace-lines").tBodies[0];
  const box = $("trace-box");
  const follow = box.scrollTop + box.clientHeight >= box.scrollHeight - 20;
  for (const line of arrived) body.append(rowOf(line));
  arrived = [];
  while (body.rows.length > most) body.rows[0].remove();
  if (follow) box.scrollTop = box.scrollHeight;
}

function rowOf(l) {
  const row = document.createElement("tr");
  row.dataset.kind = l.kind;
  const about = l.subject ?? [l.method, l.rid, l.event].filter(Boolean).join(" ");
  const note = [l.id !== undefined && `id ${l.id}`, l.clients !== undefined && `${l.clients} clients`, l.tookMs !== undefined && `${l.tookMs} ms`, l.error].filter(Boolean).join(", ");
  const text = l.hidden ? "(hidden)" : (l.payload ?? "") + (l.cut ? " …" : "");
  for (const cell of [l.time.slice(11, 23), l.kind, l.cid ?? "", about, note, l.size ?? "", text]) {
    const td = document.createElement("td");
    td.textContent = cell;
    row.append(td);
  }
  hide(row);
  return row;
}
