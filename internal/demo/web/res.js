// A small client for the RES protocol, version 1.2.3, without dependencies. Made to be read: the comments tell the
// protocol as it comes up.
//
// The idea of RES. A *resource* has an ID, such as "demo.book.4", and is either a *model* (named values) or
// a *collection* (a list of values). A client subscribes to a resource, is given its content, and from then on gets the
// events that change it, for as long as it stays subscribed. Whoever applies the events in order holds what the
// service holds. To change something one calls a method; what it changed comes back as events, to everyone alike.
//
//   const client = new Client("ws://localhost:8080/");
//   client.connect();
//   const books = await client.subscribe("demo.books");     // a Collection of Models
//   books.on("add", ({ value, idx }) => …);
//   await client.call("demo.book.4", "set", { title: "Dune" });

/** What the gateway, the service, or (codes beginning with "client.") this module has to say against a request. */
export class ResError extends Error {
  constructor({ code, message, data }) {
    super(message);
    this.name = "ResError";
    this.code = code;
    this.data = data;
  }
}

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

/** A soft reference names a resource that one is not subscribed to by it. */
export class SoftRef {
  constructor(rid) {
    this.rid = rid;
  }
}

/** Common to all resources: the ID, and an event "unsubscribe" when the gateway ended the subscription. */
class Resource extends Emitter {
  constructor(rid) {
    super();
    this.rid = rid;
  }

  /** The values that may be references to other resources. */
  children() {
    return [];
  }
}

/** Stands in for a referenced resource that could not be loaded. */
export class Failed extends Resource {
  error = null;

  fill(error) {
    this.error = new ResError(error);
    return [];
  }
}

/** A model. Emits "change" with {changed: {key: old value}}, "delete", and whatever custom events the service sends. */
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

  /** A change event names the properties that changed. A property that is gone has the value {"action":"delete"}. */
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

/** The steps from list a to list b: "keep", "remove", "add". By longest common subsequence, after cutting off equal ends. */
function diff(a, b) {
  let head = 0;
  while (head < a.length && head < b.length && same(a[head], b[head])) head++;
  let tail = 0;
  while (tail < Math.min(a.length, b.length) - head && same(a.at(-1 - tail), b.at(-1 - tail))) tail++;
  const n = a.length - head - tail;
  const m = b.length - head - tail;
  const steps = Array(head).fill("keep");
  if (n * m > 1_000_000) {
    // Too different for a table of this size: take the middle out and put the new one in.
    steps.push(...Array(n).fill("remove"), ...Array(m).fill("add"));
  } else {
    // common[i][j]: how much a from i on and b from j on have in common.
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

/**
 * A connection to a gateway that comes back by itself, with everything one has subscribed to.
 *
 * Emits "state" with {state, retryAt}: "connecting", "online", "offline" (the next try is at retryAt, in the
 * milliseconds of Date.now), "closed"; and "message" with {sent, text} for each frame, for those who want to watch.
 */
export class Client extends Emitter {
  state = "closed";
  retryAt = 0;

  #url;
  #onConnect;
  #socket = null;
  #heard = 0; // when the last message came
  #lastID = 0;
  #pending = new Map(); // request id → {resolve, reject}
  #attempts = 0; // failed ones since we were last online
  #retry = 0; // timer

  // The cache: every resource that the gateway has sent and that is still within reach of a subscription. Each
  // rid has one object, so a reference to it is simply that object.
  #cache = new Map();
  // Direct subscriptions by rid: those that somebody asked for, as opposed to what came along by reference.
  #direct = new Map();
  // Those that were given back, until the gateway has said so.
  #leaving = new Set();
  // How many direct subscriptions of before a reconnect are still to be answered.
  #returning = 0;

  /** onConnect is awaited on each new connection before subscriptions are made: the place to sign in. */
  constructor(url, { onConnect = async () => {} } = {}) {
    super();
    this.#url = url;
    this.#onConnect = onConnect;
  }

  // ── The connection ────────────────────────────────────────────────────────────────────────────────────────────

  /** Connects now, and whenever the connection is lost, until close. */
  connect() {
    clearTimeout(this.#retry);
    if (this.#socket) return;
    this.#setState("connecting");
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.onopen = () => this.#begin(socket);
    socket.onmessage = (event) => this.#socket === socket && this.#receive(event.data);
    socket.onclose = () => this.#lose(socket);
  }

  /** Ends the connection and forgets all subscriptions. */
  close() {
    clearTimeout(this.#retry);
    for (const sub of this.#direct.values()) sub.reject(disconnected());
    this.#direct.clear();
    this.#lose(this.#socket);
    clearTimeout(this.#retry);
    this.#cache.clear();
    this.#setState("closed");
  }

  /** Finds out whether the connection still lives. Worth a call when the computer woke up or found a network. */
  check() {
    if (this.state === "offline") this.connect();
    else if (this.state === "online") this.#request("version", { protocol: "1.2.3" }, 5_000).catch(() => {});
  }

  /** The first words on a new connection. */
  async #begin(socket) {
    try {
      // A client says which version it speaks. One that does not is treated like it was made before 1.2.
      await this.#request("version", { protocol: "1.2.3" });
      await this.#onConnect(this);
    } catch (error) {
      if (this.#socket !== socket) return;
      console.error(error);
      if (error.code === "system.unsupportedProtocol") return socket.close();
    }
    if (this.#socket !== socket) return;
    this.#attempts = 0;
    // The gateway knows nothing of what this client was subscribed to on an earlier connection.
    for (const sub of this.#direct.values()) {
      if (sub.resource) this.#returning++;
      this.#load(sub);
    }
    this.#setState("online");
  }

  #lose(socket) {
    if (!socket || this.#socket !== socket) return;
    this.#socket = null;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    this.#leaving.clear();
    this.#returning = 0;
    for (const sub of this.#direct.values()) sub.held = 0;
    // When a gateway goes, all its clients are back at the same time. So each waits longer than the time before,
    // and by chance not as long as the others.
    const most = Math.min(30_000, 500 * 2 ** this.#attempts++);
    const wait = most * (0.5 + Math.random() / 2);
    this.retryAt = Date.now() + wait;
    this.#retry = setTimeout(() => this.connect(), wait);
    this.#setState("offline");
    for (const { reject } of pending) reject(disconnected());
  }

  #setState(state) {
    if (this.state === state) return;
    this.state = state;
    this.emit("state", { state, retryAt: this.retryAt });
  }

  // ── Requests ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** Sends {"id", "method", "params"} and waits for the {"id", "result"} or {"id", "error"} that has the same id. */
  #request(method, params, patience = 15_000) {
    return new Promise((resolve, reject) => {
      if (this.#socket?.readyState !== WebSocket.OPEN) return reject(disconnected());
      const id = ++this.#lastID;
      const text = JSON.stringify({ id, method, params });
      const socket = this.#socket;
      const sent = Date.now();
      // A cut cable is silent. When nothing at all comes for so long after a request, the connection is given up.
      const timer = setTimeout(() => this.#heard < sent && this.#lose(socket), patience);
      const settle = (f) => (value) => {
        clearTimeout(timer);
        f(value);
      };
      this.#pending.set(id, { resolve: settle(resolve), reject: settle(reject) });
      socket.send(text);
      this.emit("message", { sent: true, text });
    });
  }

  /**
   * Calls a method of a resource. Resolves with what the method returns. If that is a resource, one is subscribed to it,
   * as if by subscribe.
   */
  call(rid, method, params) {
    return this.#perform(`call.${rid}.${method}`, params);
  }

  /** As call, but for methods that sign somebody in or out: these need no access. */
  auth(rid, method, params) {
    return this.#perform(`auth.${rid}.${method}`, params);
  }

  #perform(method, params) {
    return this.#request(method, params).then((result) => {
      if (!result?.rid) return result?.payload;
      const sub = this.#directSub(result.rid);
      sub.uses++;
      sub.held++;
      sub.resource = this.#cache.get(result.rid);
      sub.resolve(sub.resource);
      return sub.resource;
    });
  }

  // ── Subscriptions ─────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Subscribes to a resource and resolves with it. Later calls share the subscription; each needs its unsubscribe.
   * A lost connection is no error here: the promise waits for the next one.
   */
  subscribe(rid) {
    const known = this.#direct.has(rid);
    const sub = this.#directSub(rid);
    sub.uses++;
    if (!known && this.state === "online") this.#load(sub);
    return sub.ready;
  }

  /** Gives back one subscribe. */
  unsubscribe(rid) {
    const sub = this.#direct.get(rid);
    if (!sub || --sub.uses > 0) return;
    this.#direct.delete(rid);
    if (sub.held > 0) this.#leave(sub);
  }

  #directSub(rid) {
    let sub = this.#direct.get(rid);
    if (!sub) {
      // uses: by our own callers. held: direct subscriptions that the gateway counts for us.
      sub = { rid, uses: 0, held: 0, resource: null };
      sub.ready = new Promise((resolve, reject) => Object.assign(sub, { resolve, reject }));
      sub.ready.catch(() => {}); // the caller of subscribe has a promise of its own
      this.#direct.set(rid, sub);
    }
    return sub;
  }

  /** Asks the gateway for the resource, for the first time or on a new connection. */
  async #load(sub) {
    const returning = sub.resource !== null;
    try {
      await this.#request(`subscribe.${sub.rid}`);
      sub.held++;
      sub.resource = this.#cache.get(sub.rid);
      sub.resolve(sub.resource);
      if (!this.#isCurrent(sub)) this.#leave(sub); // not wanted any more
    } catch (error) {
      if (error.code === "client.disconnected") return; // the next connection tries again
      if (this.#isCurrent(sub)) this.#direct.delete(sub.rid);
      sub.reject(error);
      sub.resource?.emit("unsubscribe", { reason: error });
    }
    if (returning && --this.#returning === 0) this.#sweep();
  }

  #isCurrent(sub) {
    return this.#direct.get(sub.rid) === sub;
  }

  /**
   * Tells the gateway. Until it has answered, it may still send events that refer to what is subscribed here,
   * so nothing is dropped before.
   */
  #leave(sub) {
    this.#leaving.add(sub);
    this.#request(`unsubscribe.${sub.rid}`, { count: sub.held })
      .catch(() => {}) // disconnected, or the gateway ended the subscription first
      .then(() => {
        this.#leaving.delete(sub);
        this.#sweep();
      });
  }

  /**
   * Forgets what cannot be reached from a direct subscription by references. The gateway does the same, at the same
   * place in the order of messages: so it knows what we hold, and sends again what we forgot.
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
    const message = JSON.parse(text);
    if (message.event !== undefined) return this.#apply(message.event, message.data);
    const pending = this.#pending.get(message.id);
    if (!pending) return;
    this.#pending.delete(message.id);
    if (message.error) return pending.reject(new ResError(message.error));
    this.#merge(message.result);
    pending.resolve(message.result);
  }

  /**
   * Takes in a *resource set*: {"models": {rid: {…}}, "collections": {rid: […]}, "errors": {rid: {…}}}, with what an
   * answer or event makes us subscribe to and we do not hold yet. First all resources are made, then filled: they
   * may refer to each other in circles.
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
        // What was here before a reconnect is brought up to date, and the difference told as events.
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

  /** Applies an event. Its name is "<rid>.<event>": the last dot parts the two. */
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
        // {"reason": {…}}: the right to see it was withdrawn, or it was deleted. All direct subscriptions are gone.
        const sub = this.#direct.get(rid);
        if (sub?.held > 0) this.#direct.delete(rid);
        resource.emit("unsubscribe", { reason: new ResError(data.reason) });
        return this.#sweep();
      }
      default: // "delete", and the service's own events, which are no part of the state
        return resource.emit(event, data);
    }
  }
}
