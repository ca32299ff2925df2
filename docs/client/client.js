// A client of the RES protocol 1.2.3, without dependencies: for browsers, and for Node. It is written to be read: the
// comments explain the protocol where it is used.
//
// A *resource* has an ID, such as "demo.book.4", and is either a *model* (named values) or a *collection* (a list of
// values). A client subscribes to a resource, receives its content, and from then on the events that change it, for as
// long as it stays subscribed. A client that applies the events in order holds what the service holds. To change
// something, a client calls a method; what has changed arrives as events, at all clients alike.
//
//   const client = new Client("ws://localhost:8080/");
//   client.connect();
//   const books = await client.subscribe("demo.books");     // a Collection of Models
//   books.on("add", ({ value, idx }) => …);
//   await client.call("demo.book.4", "set", { title: "Dune" });

/** An error response of the gateway or the service, or (codes that begin with "client.") of this module. */
export class ResError extends Error {
  constructor({ code, message, data }) {
    super(message);
    this.name = "ResError";
    this.code = code;
    this.data = data;
  }
}

// A client states the version that it speaks; one that does not counts as older than 1.2. eventsLost is an extension:
// the gateway reports custom events that it had to drop.
const version = { protocol: "1.2.3", eventsLost: true };

const disconnected = () => new ResError({ code: "client.disconnected", message: "Not connected" });

/** Listeners by event name. */
class Emitter {
  #listeners = new Map();

  /** Calls fn with each event of that name; returns a function that ends it. */
  on(name, fn) {
    if (!this.#listeners.has(name)) this.#listeners.set(name, new Set());
    this.#listeners.get(name).add(fn);
    return () => this.#listeners.get(name).delete(fn);
  }

  emit(name, data) {
    for (const fn of this.#listeners.get(name) ?? []) {
      try {
        fn(data);
      } catch (error) {
        // One listener's mistake must not keep the others, or the protocol, from going on.
        console.error(error);
      }
    }
  }
}

/** A soft reference names a resource, and does not subscribe the client to it. */
export class SoftRef {
  constructor(rid) {
    this.rid = rid;
  }
}

/** Common to all resources: the ID, and an event "unsubscribe" with {reason} when the gateway ends the subscription. */
export class Resource extends Emitter {
  constructor(rid) {
    super();
    this.rid = rid;
  }

  /** The values that may be references to other resources. */
  children() {
    return [];
  }
}

/** Stands for a referenced resource that could not be loaded. */
export class Failed extends Resource {
  error = null;

  fill(error) {
    this.error = new ResError(error);
    return [];
  }
}

/** A model. Emits "change" with {changed: {key: old value}}, "delete", and the service's custom events. */
export class Model extends Resource {
  props = Object.create(null);

  children() {
    return Object.values(this.props);
  }

  /** Brings the whole model to the given values; returns the events to emit. */
  fill(values, valueOf) {
    const all = { ...values };
    for (const key of Object.keys(this.props)) {
      if (!Object.hasOwn(all, key)) all[key] = { action: "delete" };
    }
    return this.change(all, valueOf);
  }

  /** A change event has the properties that changed. A property that is gone has the value {"action":"delete"}. */
  change(values, valueOf) {
    const changed = Object.create(null);
    for (const [key, raw] of Object.entries(values)) {
      const old = this.props[key];
      if (raw !== null && typeof raw === "object" && raw.action === "delete") {
        if (!(key in this.props)) continue;
        delete this.props[key];
      } else {
        const value = valueOf(raw);
        if (key in this.props && same(old, value)) continue;
        this.props[key] = value;
      }
      changed[key] = old;
    }
    return Object.keys(changed).length ? [["change", { changed }]] : [];
  }
}

/** A collection. Emits "add" and "remove" with {value, idx}, "delete", and custom events. */
export class Collection extends Resource {
  items = [];

  children() {
    return this.items;
  }

  /** Brings the whole list to the given values by few steps, so that what stayed keeps its place on the screen. */
  fill(values, valueOf) {
    const next = values.map(valueOf);
    const events = [];
    const remove = (idx) => events.push(["remove", { value: this.items.splice(idx, 1)[0], idx }]);
    const add = (idx, value) => {
      this.items.splice(idx, 0, value);
      events.push(["add", { value, idx }]);
    };
    let idx = 0;
    for (const step of diff(this.items, next)) {
      if (step === "remove") remove(idx);
      else if (step === "add") add(idx, next[idx++]);
      else idx++;
    }
    return events;
  }
}

/** Values are equal if they are the same resource, the same primitive, or data of the same content. */
function same(a, b) {
  if (a === b) return true;
  if (a instanceof Resource || b instanceof Resource) return false;
  return JSON.stringify(a) === JSON.stringify(b) && a instanceof SoftRef === b instanceof SoftRef;
}

/** Returns the steps from list a to list b, "keep", "remove" and "add": a longest common subsequence between equal ends. */
function diff(a, b) {
  let head = 0;
  while (head < a.length && head < b.length && same(a[head], b[head])) head++;
  let tail = 0;
  while (tail < Math.min(a.length, b.length) - head && same(a.at(-1 - tail), b.at(-1 - tail))) tail++;
  const n = a.length - head - tail;
  const m = b.length - head - tail;
  const steps = Array(head).fill("keep");
  if (n * m > 1_000_000) {
    // The table would be too large: all between the equal ends is replaced.
    steps.push(...Array(n).fill("remove"), ...Array(m).fill("add"));
  } else {
    // common[i][j]: what a from i on and b from j on have in common.
    const common = Array.from({ length: n + 1 }, () => new Uint32Array(m + 1));
    for (let i = n - 1; i >= 0; i--) {
      for (let j = m - 1; j >= 0; j--) {
        common[i][j] = same(a[head + i], b[head + j])
          ? common[i + 1][j + 1] + 1
          : Math.max(common[i + 1][j], common[i][j + 1]);
      }
    }
    let i = 0;
    let j = 0;
    while (i < n || j < m) {
      if (i < n && j < m && same(a[head + i], b[head + j])) {
        steps.push("keep");
        i++;
        j++;
      } else if (i < n && (j === m || common[i + 1][j] >= common[i][j + 1])) {
        steps.push("remove");
        i++;
      } else {
        steps.push("add");
        j++;
      }
    }
  }
  return steps.concat(Array(tail).fill("keep"));
}

/** Close codes of a gateway that restarts, stops, or has closed a slow client: all clients come back, so not immediately. */
const busy = new Set([1001, 1012, 1013]);

/** How long a handshake may take, in milliseconds: a lost machine does not refuse it. */
const handshake = 10_000;

/** The URL of another gateway in a close event: the reason "try wss://…", an extension. */
const hintOf = ({ code, reason }) => (code === 1001 || code === 1012 ? /^try (\S+)$/.exec(reason)?.[1] : undefined);

/** A gateway, and when it may be tried again. */
class Place {
  attempts = 0; // since a connection has lasted
  due = 0;

  constructor(url) {
    this.url = url;
    try {
      const { href, protocol, host } = new URL(`${url}`.replace(/^http/, "ws"), globalThis.location?.href);
      if (/^wss?:$/.test(protocol)) Object.assign(this, { href, protocol, host });
    } catch {
      // The WebSocket says what is wrong with it.
    }
  }
}

/** Which gateway of a list to connect to, and when. */
class Places {
  now;

  #list;
  #follow;
  #other; // the latest place of a hint that is not in the list

  constructor(urls, follow) {
    this.#list = [urls].flat().map((url) => new Place(url));
    if (!this.#list.length) throw new TypeError("there is no gateway to connect to: pass a URL, or a list");
    this.#follow = follow;
    this.now = this.#list[0];
  }

  /**
   * Notes that the connection is lost, or could not be made, and chooses the next place. Returns the milliseconds to wait.
   *
   * A connection that was open is first made again at the same place, unless the gateway has ended it. What fails waits
   * longer from attempt to attempt, so the others have their turn.
   */
  leave({ open = false, lasted = false, code, hint, retryAfter = 0 }) {
    const from = this.now;
    const time = Date.now();
    // When a gateway ends, all its clients come back at the same time. So each waits a random part of the pause.
    const share = 0.5 + Math.random() / 2;
    const pause = (attempts) => Math.min(30_000, 500 * 2 ** attempts) * share;
    const least = busy.has(code) ? 2 : 0;
    if (lasted) from.attempts = 0;
    from.attempts = Math.max(from.attempts, least);
    from.due = time + Math.max(pause(from.attempts++), retryAfter);
    if (!open || code === 1001 || code === 1012) this.now = this.#hinted(hint, time) ?? this.#next(time);
    return Math.max(pause(least), this.now.due - time);
  }

  /** The place that may be tried first, in the order of the list, beginning after the present one. */
  #next(time) {
    const after = this.#list.indexOf(this.now) + 1;
    const all = [...this.#list.slice(after), ...this.#list.slice(0, after)];
    return all.reduce((best, place) => (Math.max(place.due, time) < Math.max(best.due, time) ? place : best));
  }

  /**
   * The place of a hint: one of the list, or at a host of the list, or one that follow admits. A hint comes from outside,
   * so it cannot lead to any other host, or to a connection that is not encrypted where the list has those that are.
   */
  #hinted(hint, time) {
    if (!hint) return undefined;
    let place = new Place(hint);
    if (!place.href) return undefined;
    const known = this.#list.find(({ href }) => href === place.href);
    if (!known) {
      const secure = place.protocol === "wss:" || this.#list.every(({ protocol }) => protocol !== "wss:");
      const near = this.#list.some(({ protocol, host }) => protocol === place.protocol && host === place.host);
      if (!near && !(secure && this.#follow?.(place.href))) return undefined;
      if (this.#other?.href !== place.href) this.#other = place;
    }
    place = known ?? this.#other;
    return place.due <= time ? place : undefined; // it has failed just now
  }
}

/**
 * Returns a function that makes WebSockets, for ResClient in place of a URL: new ResClient(dialer(urls)). Each is to the
 * gateway that is to be tried next. The options are those of Client.
 */
export function dialer(urls, { follow, WebSocket = globalThis.WebSocket } = {}) {
  const places = new Places(urls, follow);
  return () => {
    const socket = new WebSocket(places.now.url);
    const guard = setTimeout(() => socket.close(), handshake);
    let since = 0;
    socket.addEventListener("open", () => {
      clearTimeout(guard);
      since = Date.now();
    });
    socket.addEventListener("close", (event) => {
      clearTimeout(guard);
      places.leave({ open: since > 0, lasted: since > 0 && Date.now() - since > 10_000, code: event.code, hint: hintOf(event) });
    });
    return socket;
  };
}

/**
 * A connection to a gateway, which is made again when it is lost, with all subscriptions.
 *
 * Emits "state" with {state, retryAt}: "connecting", "online", "offline" (the next attempt is at retryAt, in the
 * milliseconds of Date.now), "closed"; and "message" with {sent, text} for each message, for debugging.
 */
export class Client extends Emitter {
  state = "closed";
  retryAt = 0;

  #places;
  #onConnect;
  #WebSocket;
  #socket = null;
  #heard = 0; // when the last message arrived
  #lastID = 0;
  #pending = new Map(); // request ID → function of (error, result)
  #since = 0; // when this connection came online
  #retry = 0; // timer
  #guard = 0; // timer of the handshake

  // The cache: each resource that the gateway has sent and that is still reachable from a subscription. Each ID has one
  // object, so a reference to it is that object.
  #cache = new Map();
  // Direct subscriptions by ID: those that a caller has requested, as opposed to those by reference.
  #direct = new Map();
  // Subscriptions that have ended here, until the gateway has confirmed it.
  #leaving = new Set();
  // How many subscriptions from before a reconnect have no response yet.
  #returning = 0;

  /**
   * url may be a list: further gateways, for when the first is lost. onConnect is awaited on each new connection before
   * subscriptions are made: the place to sign in. WebSocket is the class to use, that of the package ws in Node before
   * version 22. follow is called with the URL that a gateway has sent the client to, if its host is not in the list;
   * if it returns true, the client goes there.
   */
  constructor(url, { onConnect = async () => {}, follow, WebSocket = globalThis.WebSocket } = {}) {
    super();
    if (!WebSocket) throw new TypeError('there is no WebSocket: pass that of the package "ws", as in new Client(url, { WebSocket })');
    this.#places = new Places(url, follow);
    this.#onConnect = onConnect;
    this.#WebSocket = WebSocket;
  }

  // ── The connection ────────────────────────────────────────────────────────────────────────────────────────────

  /** The gateway that the client is connected to, or will try next. */
  get url() {
    return this.#places.now.url;
  }

  /** Connects now, and after each loss of the connection, until close. */
  connect() {
    clearTimeout(this.#retry);
    if (this.#socket) return;
    this.#setState("connecting");
    const socket = new this.#WebSocket(this.url);
    this.#socket = socket;
    this.#guard = setTimeout(() => this.#lose(socket), handshake);
    socket.onopen = () => {
      clearTimeout(this.#guard);
      this.#begin(socket);
    };
    socket.onmessage = (event) => this.#socket === socket && this.#receive(event.data);
    socket.onclose = (event) => this.#lose(socket, { code: event.code, hint: hintOf(event) });
    socket.onerror = () => {}; // "close" follows
    // A browser does not show the status of a rejected handshake. The package ws does.
    socket.on?.("unexpected-response", (request, response) => {
      request.destroy();
      const { "retry-after": seconds, "sluice-alternate": hint } = response.headers;
      this.#lose(socket, { retryAfter: 1000 * (Number(seconds) || 0), hint });
    });
  }

  /** Ends the connection and all subscriptions. */
  close() {
    for (const sub of this.#direct.values()) sub.reject(disconnected());
    this.#direct.clear();
    this.#lose(this.#socket);
    clearTimeout(this.#retry);
    this.#cache.clear();
    this.#setState("closed");
  }

  /** Finds out whether the connection still works. Call it when the computer wakes up or has a network again. */
  check() {
    if (this.state === "offline") this.connect();
    else if (this.state === "online") this.#request("version", version, 5_000).catch(() => {});
  }

  /** Begins a new connection: the version first, then what onConnect sends, then the subscriptions. */
  async #begin(socket) {
    try {
      await this.#request("version", version);
      await this.#onConnect(this);
    } catch (error) {
      if (this.#socket !== socket) return;
      console.error(error);
      if (error.code === "system.unsupportedProtocol") return this.#lose(socket);
    }
    if (this.#socket !== socket) return;
    this.#since = Date.now();
    // The gateway does not know the subscriptions of an earlier connection.
    for (const sub of this.#direct.values()) {
      if (sub.resource) this.#returning++;
      this.#load(sub);
    }
    this.#setState("online");
  }

  #lose(socket, why = {}) {
    if (!socket || this.#socket !== socket) return;
    this.#socket = null;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    this.#leaving.clear();
    this.#returning = 0;
    for (const sub of this.#direct.values()) sub.held = 0;
    clearTimeout(this.#guard);
    // A connection must last for ten seconds before the pause is short again.
    const lasted = this.#since > 0 && Date.now() - this.#since > 10_000;
    const wait = this.#places.leave({ open: this.#since > 0, lasted, ...why });
    this.#since = 0;
    this.retryAt = Date.now() + wait;
    this.#retry = setTimeout(() => this.connect(), wait);
    this.#setState("offline");
    for (const done of pending) done(disconnected());
  }

  #setState(state) {
    if (this.state === state) return;
    this.state = state;
    this.emit("state", { state, retryAt: this.retryAt });
  }

  // ── Requests ──────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Sends {"id", "method", "params"}. It calls done with the error or result of the response of the same ID, before the
   * next message is handled: so what done notes down is known to the events after the response.
   */
  #send(method, params, done, patience = 15_000) {
    const socket = this.#socket;
    if (socket?.readyState !== 1) return done(disconnected()); // 1: open
    const id = ++this.#lastID;
    const text = JSON.stringify({ id, method, params });
    const sent = Date.now();
    // A cut cable is silent. If no message arrives for so long after a request, the connection is given up.
    const timer = setTimeout(() => this.#heard <= sent && this.#lose(socket), patience);
    this.#pending.set(id, (error, result) => {
      clearTimeout(timer);
      done(error, result);
    });
    socket.send(text);
    this.emit("message", { sent: true, text });
  }

  #request(method, params, patience) {
    return new Promise((resolve, reject) => {
      this.#send(method, params, (error, result) => (error ? reject(error) : resolve(result)), patience);
    });
  }

  /**
   * Calls a method of a resource. Resolves with what the method returns. If that is a resource, the client is subscribed
   * to it, as by subscribe.
   */
  call(rid, method, params) {
    return this.#perform(`call.${rid}.${method}`, params);
  }

  /** As call, for methods that sign in or out: these need no access. */
  auth(rid, method, params) {
    return this.#perform(`auth.${rid}.${method}`, params);
  }

  #perform(method, params) {
    return new Promise((resolve, reject) => {
      this.#send(method, params, (error, result) => {
        if (error) return reject(error);
        if (!result?.rid) return resolve(result?.payload);
        const resource = this.#cache.get(result.rid);
        if (resource instanceof Failed) {
          // The method has succeeded, and its resource cannot be loaded: there is no subscription.
          this.#sweep();
          return resolve(resource);
        }
        const sub = this.#directSub(result.rid);
        sub.uses++;
        sub.held++;
        sub.resource = resource;
        sub.resolve(resource);
        resolve(resource);
      });
    });
  }

  // ── Subscriptions ─────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Subscribes to a resource and resolves with it. Later calls share the subscription; each needs its unsubscribe. A lost
   * connection is no error: the promise waits for the next one.
   */
  subscribe(rid) {
    const known = this.#direct.has(rid);
    const sub = this.#directSub(rid);
    sub.uses++;
    if (!known && this.state === "online") this.#load(sub);
    return sub.ready;
  }

  /** Ends one subscribe. */
  unsubscribe(rid) {
    const sub = this.#direct.get(rid);
    if (!sub || --sub.uses > 0) return;
    this.#direct.delete(rid);
    if (sub.held > 0) this.#leave(sub);
  }

  #directSub(rid) {
    let sub = this.#direct.get(rid);
    if (!sub) {
      // uses: by callers. held: direct subscriptions that the gateway counts.
      sub = { rid, uses: 0, held: 0, resource: null };
      sub.ready = new Promise((resolve, reject) => Object.assign(sub, { resolve, reject }));
      sub.ready.catch(() => {}); // the caller of subscribe has the promise, too
      this.#direct.set(rid, sub);
    }
    return sub;
  }

  /** Requests the resource, for the first time or on a new connection. */
  #load(sub) {
    const returning = sub.resource !== null;
    this.#send(`subscribe.${sub.rid}`, undefined, (error) => {
      if (error?.code === "client.disconnected") return; // the next connection tries again
      if (error) {
        if (this.#isCurrent(sub)) this.#direct.delete(sub.rid);
        sub.reject(error);
        sub.resource?.emit("unsubscribe", { reason: error });
      } else {
        sub.held++;
        sub.resource = this.#cache.get(sub.rid);
        sub.resolve(sub.resource);
        if (!this.#isCurrent(sub)) this.#leave(sub); // it has ended while the request was in flight
      }
      if (returning && --this.#returning === 0) this.#sweep();
    });
  }

  #isCurrent(sub) {
    return this.#direct.get(sub.rid) === sub;
  }

  /**
   * Unsubscribes at the gateway. Until that responds, its events may refer to what is subscribed here, so nothing is
   * dropped before.
   */
  #leave(sub) {
    this.#leaving.add(sub);
    // An error means that the subscription has ended already.
    this.#send(`unsubscribe.${sub.rid}`, { count: sub.held }, () => {
      this.#leaving.delete(sub);
      this.#sweep();
    });
  }

  /**
   * Drops what cannot be reached from a direct subscription by references. The gateway does the same, at the same place in
   * the order of messages: so it knows what the client holds, and sends again what was dropped.
   */
  #sweep() {
    if (this.#returning > 0) return; // the old content is kept until its successor is here
    const reached = new Set();
    const queue = [...this.#direct.values(), ...this.#leaving].filter((sub) => sub.resource).map((sub) => sub.resource);
    while (queue.length) {
      const resource = queue.pop();
      if (reached.has(resource)) continue;
      reached.add(resource);
      for (const child of resource.children()) if (child instanceof Resource) queue.push(child);
    }
    for (const [rid, resource] of this.#cache) if (!reached.has(resource)) this.#cache.delete(rid);
  }

  // ── Messages ──────────────────────────────────────────────────────────────────────────────────────────────────

  #receive(text) {
    this.#heard = Date.now();
    this.emit("message", { sent: false, text });
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return this.#lose(this.#socket); // no gateway sends that
    }
    if (message.event !== undefined) return this.#apply(message.event, message.data);
    const done = this.#pending.get(message.id);
    if (!done) return;
    this.#pending.delete(message.id);
    if (message.error) return done(new ResError(message.error));
    this.#merge(message.result);
    done(null, message.result);
  }

  /**
   * Adds a *resource set*: {"models": {rid: {…}}, "collections": {rid: […]}, "errors": {rid: {…}}}, what a response or
   * event subscribes the client to and it does not hold yet. First all resources are made, then filled: references may
   * form cycles.
   */
  #merge(set) {
    const kinds = [
      [Model, set?.models],
      [Collection, set?.collections],
      [Failed, set?.errors],
    ];
    for (const [Kind, group] of kinds) {
      for (const rid of Object.keys(group ?? {})) {
        if (!(this.#cache.get(rid) instanceof Kind)) this.#cache.set(rid, new Kind(rid));
      }
    }
    const events = [];
    for (const [, group] of kinds) {
      for (const [rid, content] of Object.entries(group ?? {})) {
        // A resource from before a reconnect is brought up to date, and the difference emitted as events.
        const resource = this.#cache.get(rid);
        for (const event of resource.fill(content, this.#valueOf)) events.push([resource, event]);
      }
    }
    for (const [resource, [name, data]] of events) resource.emit(name, data);
  }

  /**
   * A value is a primitive, a reference {"rid"}, a soft reference {"rid","soft":true}, or {"data"} with any JSON inside.
   */
  #valueOf = (raw) => {
    if (raw === null || typeof raw !== "object") return raw;
    if (raw.soft) return new SoftRef(raw.rid);
    if (raw.rid !== undefined) return this.#cache.get(raw.rid) ?? new Failed(raw.rid);
    return raw.data;
  };

  /** Applies an event. Its name is "<rid>.<event>": the last dot separates the two. */
  #apply(name, data) {
    const dot = name.lastIndexOf(".");
    const rid = name.slice(0, dot);
    const event = name.slice(dot + 1);
    const resource = this.#cache.get(rid);
    if (!resource) return;
    switch (event) {
      case "change": // {"values": {…}} and a resource set for references that are new
        if (!(resource instanceof Model)) return;
        this.#merge(data);
        for (const [e, d] of resource.change(data.values, this.#valueOf)) resource.emit(e, d);
        return this.#sweep();
      case "add": {
        // {"idx", "value"} and a resource set
        if (!(resource instanceof Collection)) return;
        this.#merge(data);
        const value = this.#valueOf(data.value);
        resource.items.splice(data.idx, 0, value);
        return resource.emit("add", { value, idx: data.idx });
      }
      case "remove": {
        // {"idx"}
        if (!(resource instanceof Collection)) return;
        const [value] = resource.items.splice(data.idx, 1);
        resource.emit("remove", { value, idx: data.idx });
        return this.#sweep();
      }
      case "unsubscribe": {
        // {"reason": {…}}: access has ended, or it was deleted. All direct subscriptions have ended.
        const sub = this.#direct.get(rid);
        if (sub?.held > 0) this.#direct.delete(rid);
        resource.emit("unsubscribe", { reason: new ResError(data.reason) });
        return this.#sweep();
      }
      default: // "delete", the service's custom events, and "eventsLost" with {"count"} in the place of some of them
        return resource.emit(event, data);
    }
  }
}
