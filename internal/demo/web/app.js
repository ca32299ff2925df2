// The page: connects, shows who one is and how many are here, and gives the two boards their resources.

import { Client } from "/client.js";
import { Books } from "/books.js";
import { Market } from "/market.js";
import { Wire } from "/wire.js";

const $ = (id) => document.getElementById(id);

const url = new URL(document.documentElement.dataset.ws, location.href);
url.protocol = url.protocol === "https:" ? "wss:" : "ws:";

// The gateway forgets who we were when a connection ends. The tab remembers, over reloads as well.
const storedName = "sluice-demo-name";
const remember = (name) => (name ? sessionStorage.setItem(storedName, name) : sessionStorage.removeItem(storedName));

// "{cid}" stands for the connection's own ID, which only the gateway and the services know.
const session = "demo.session.{cid}";

const client = new Client(url, {
  async onConnect() {
    const name = sessionStorage.getItem(storedName);
    if (name) await client.auth(session, "login", { name });
  },
});

const market = new Market();
const books = new Books(client);
new Wire(client);

// ── Connection ──────────────────────────────────────────────────────────────────────────────────────────────────

let countdown = 0;
client.on("state", ({ state, retryAt }) => {
  const pill = $("connection");
  clearInterval(countdown);
  pill.dataset.state = state;
  document.body.classList.toggle("stale", state !== "online");
  const offline = state === "offline";
  if (!offline && $("retry").contains(document.activeElement)) $("books-title").focus();
  $("retry").hidden = !offline;
  books.online(state === "online");
  if (offline) {
    // Said once to screen readers; the seconds are for the eye.
    pill.replaceChildren("Offline", span("seconds", ""));
    const tick = () => {
      pill.lastChild.textContent = ` · next try in ${Math.max(0, Math.ceil((retryAt - Date.now()) / 1000))} s`;
    };
    tick();
    countdown = setInterval(tick, 500);
  } else {
    pill.textContent = { connecting: "Connecting…", online: "Live", closed: "Closed" }[state];
  }
});
$("retry").addEventListener("click", () => client.connect());
window.addEventListener("online", () => client.check());
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && client.check());

function span(className, text) {
  const el = document.createElement("span");
  el.className = className;
  el.ariaHidden = "true";
  el.textContent = text;
  return el;
}

// ── Who is here ─────────────────────────────────────────────────────────────────────────────────────────────────

function showClients({ props }) {
  $("connected").textContent = props.connected;
  $("signed-in").textContent = props.signedIn;
}

function showSession({ props }) {
  const focused = document.activeElement;
  $("login").hidden = props.canEdit;
  $("me").hidden = !props.canEdit;
  $("my-name").textContent = props.name;
  books.editable(props.canEdit);
  // What had the focus is hidden now: pass it on.
  if (props.canEdit && $("login").contains(focused)) $("add-title").focus();
  if (!props.canEdit && focused === $("logout")) $("name").focus();
}

$("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const name = $("name").value.trim();
  $("login-error").textContent = "";
  try {
    if (!name) throw new Error("Please enter a name");
    await client.auth(session, "login", { name });
    remember(name);
  } catch (error) {
    $("login-error").textContent = error.message;
    $("name").focus();
  }
  $("name").ariaInvalid = $("login-error").textContent ? "true" : "false";
});

$("logout").addEventListener("click", async () => {
  remember("");
  // Offline there is nothing to sign out of: the next connection begins as a guest.
  if (client.state === "online") await client.auth(session, "logout").catch((error) => console.error(error));
});

// ── Subscriptions ───────────────────────────────────────────────────────────────────────────────────────────────

/**
 * Keeps a resource on show. A subscription can fail, or end, because the service is just being restarted or the right
 * to it was withdrawn; so it is tried again, less often each time.
 */
async function live(rid, show, complain = () => {}) {
  for (let wait = 500; ; wait = Math.min(2 * wait, 15_000)) {
    try {
      const resource = await client.subscribe(rid);
      wait = 500;
      const ended = new Promise((resolve) => resource.on("unsubscribe", resolve));
      show(resource);
      throw (await ended).reason;
    } catch (error) {
      console.warn(`${rid}: ${error.message}`);
      complain(error);
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

/** Shows a model now and at each change. */
const each = (show) => (model) => {
  model.on("change", () => show(model));
  show(model);
};

client.connect();
// All at once: the answers come as they are ready.
live(session, each(showSession));
live("demo.clients", each(showClients));
live("demo.tickers", (tickers) => market.show(tickers), (error) => market.complain(error));
live("demo.books", (list) => books.show(list), (error) => books.complain(error));
