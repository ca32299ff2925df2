// Our own client, the npm package in docs/client: against a gateway with the WebSocket of the package ws, which has no
// pause between messages, and alone. The demo's page has it in a browser.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, it, mock } from "node:test";

import WebSocket from "ws";

import { Client, dialer, Collection, Failed, Model, ResError, SoftRef } from "../../../docs/client/client.js";
import { Gateway, Service } from "../support/process.js";
import { random, seed } from "../support/random.js";
import { failure, next, until } from "../support/wait.js";

/** As next, for this client, whose "on" returns the function that ends it. */
const heard = (target, name) => {
  let end;
  return next({ on: (n, fn) => (end = target.on(n, fn)), off: () => end() }, name);
};

const online = (client) => until(() => client.state === "online", "the client is online");

describe(`sluice-client (E2E_SEED=${seed})`, () => {
  let service, gateway, clients, client, other;

  const open = (options) => {
    const c = new Client(gateway.url, { WebSocket, ...options });
    clients.push(c);
    c.connect();
    return c;
  };

  before(async () => {
    service = await new Service().run();
    gateway = await new Gateway(["--nats", service.nats]).run();
  });
  after(async () => {
    await gateway.stop();
    await service.stop();
  });
  beforeEach(async () => {
    clients = [];
    [client, other] = [open(), open()];
    await Promise.all([online(client), online(other)]);
  });
  afterEach(() => {
    for (const c of clients) c.close();
  });

  it("understands every kind of value", async () => {
    const info = await client.subscribe("lib.info");
    assert.ok(info instanceof Model);
    assert.deepEqual(info.props.tags, ["a", "b"]);
    assert.deepEqual(info.props.see, new SoftRef("lib.person.ada"));
    assert.equal(info.props.nothing, null);
    assert.equal(info.props.head.props.friend.props.friend, info.props.head, "a cycle of references");
    const cyd = await client.subscribe("lib.person.cyd");
    assert.ok(cyd.props.friend instanceof Failed);
    assert.equal(cyd.props.friend.error.code, "system.notFound");
  });

  it("folds change events, with new and deleted properties", async () => {
    const info = await client.subscribe("lib.info");
    let change = heard(info, "change");
    await other.call("lib.info", "set", { count: 4, extra: 1 });
    assert.deepEqual({ ...(await change).changed }, { count: 3, extra: undefined });
    assert.equal(info.props.extra, 1);
    change = heard(info, "change");
    await other.call("lib.info", "drop", { key: "extra" });
    await change;
    assert.ok(!("extra" in info.props));
    await other.call("lib.info", "set", { count: 3 });
  });

  it("shares subscriptions, counts them, and gives them back", async () => {
    const [a, b] = await Promise.all([client.subscribe("lib.notes"), client.subscribe("lib.notes")]);
    assert.equal(a, b);
    assert.ok(a instanceof Collection);
    client.unsubscribe("lib.notes");
    let add = heard(a, "add");
    await other.call("lib.notes", "add", { value: "still here", idx: 0 });
    assert.equal((await add).value, "still here");

    const gone = heard(client, "message"); // the request to leave
    client.unsubscribe("lib.notes");
    assert.match((await gone).text, /unsubscribe\.lib\.notes.*"count":1/);
    await other.call("lib.notes", "remove", { idx: 0 });
    const again = await client.subscribe("lib.notes");
    assert.notEqual(again, a, "it was dropped and sent again");
    assert.equal(again.items[0], "one");
    add = heard(again, "add");
    await other.call("lib.notes", "add", { value: 1, idx: 5 });
    await add;
    await other.call("lib.notes", "remove", { idx: 5 });
  });

  it("subscribes and unsubscribes in quick succession", async () => {
    for (let i = 0; i < 20; i++) {
      const first = client.subscribe("lib.items");
      client.unsubscribe("lib.items");
      const second = client.subscribe("lib.items");
      await Promise.all([first, second]);
      if (i % 2) client.unsubscribe("lib.items");
    }
    const items = await client.subscribe("lib.items");
    const add = heard(items, "add");
    const made = await other.call("lib.items", "new", { name: "quick" });
    assert.equal((await add).value.props.name, "quick");
    await other.call("lib.items", "remove", { id: made.props.id });
  });

  it("takes a resource for an answer, and gives it back alone", async () => {
    const items = await client.subscribe("lib.items");
    const made = await client.call("lib.items", "new", { name: "Mine", idx: 0 });
    assert.equal(items.items[0], made);
    client.unsubscribe(made.rid);
    const change = heard(made, "change"); // the list still refers to it
    await other.call(made.rid, "set", { name: "Ours" });
    await change;
    assert.equal(made.props.name, "Ours");
    await other.call("lib.items", "remove", { id: made.props.id });
  });

  it("rejects with the service's and the gateway's errors", async () => {
    const error = await failure(client.call("lib.faulty", "custom"));
    assert.ok(error instanceof ResError);
    assert.deepEqual([error.code, error.message, error.data], ["lib.teapot", "Short and stout", { handle: "here", spouts: 1 }]);
    assert.equal((await failure(client.subscribe("lib.nothing"))).code, "system.notFound");
    assert.equal((await failure(client.subscribe("lib.secret"))).code, "system.accessDenied");
    const closed = open();
    closed.close();
    assert.equal((await failure(closed.call("lib.info", "set", {}))).code, "client.disconnected");
  });

  it("signs in on each new connection, and reports when access is revoked", async () => {
    const mine = open({ onConnect: (c) => c.auth("lib.auth", "login", { user: "ada", password: "secret" }) });
    const secret = await mine.subscribe("lib.secret");
    assert.equal(secret.props.word, "sesame");
    const ended = heard(secret, "unsubscribe");
    await mine.auth("lib.auth", "logout");
    assert.equal((await ended).reason.code, "system.accessDenied");
    assert.equal((await failure(mine.subscribe("lib.secret"))).code, "system.accessDenied");
  });

  it("passes custom events and deletion on", async () => {
    const made = await client.call("lib.temp.p", "make");
    const deleted = heard(made, "delete");
    const ended = heard(made, "unsubscribe");
    await other.call("lib.temp.p", "destroy");
    await deleted;
    assert.equal((await ended).reason.code, "system.deleted");
    const info = await client.subscribe("lib.info");
    const shout = heard(info, "shout");
    await other.call("lib.info", "shout", [1]);
    assert.deepEqual(await shout, [1]);
  });

  // Convergence, with cycles of references, moves, and subscriptions that begin and end.

  const rid = (resource) => (resource ? resource.rid : "");

  /** What the client holds, within reach of the list, in the form of the service's state; and whatever is wrong with it. */
  function view(list) {
    const people = {};
    const wrong = [];
    const look = (person) => {
      if (!person || people[person.rid]) return;
      if (person instanceof Failed) {
        if (!person.error) wrong.push(`${person.rid} is referred to but not held`);
        return;
      }
      people[person.rid] = { name: person.props.name, friend: rid(person.props.friend) };
      look(person.props.friend);
    };
    const items = list.items.map(({ rid: r, props }) => {
      if (!props) return wrong.push(`${r} is referred to but not held`);
      look(props.owner);
      return { id: props.id, name: props.name, owner: rid(props.owner).split(".").at(-1) };
    });
    return { items, people, wrong };
  }

  function difference(list, state) {
    const { items, people, wrong } = view(list);
    if (JSON.stringify(items) !== JSON.stringify(state.items)) return `items ${JSON.stringify(items)} are ${JSON.stringify(state.items)}`;
    for (const [r, person] of Object.entries(people)) {
      const real = state.people[r.split(".").at(-1)];
      if (JSON.stringify(person) !== JSON.stringify({ name: real.name, friend: real.friend })) {
        return `${r} ${JSON.stringify(person)} is ${JSON.stringify(real)}`;
      }
    }
    return wrong.join("; ");
  }

  const converged = async (editor, list) => {
    const state = await editor.call("lib.control", "state");
    let last;
    await until(() => !(last = difference(list, state)), () => `seed ${seed}: ${last}`);
  };

  const people = ["", "ada", "bea", "cyd", "dan"];

  async function edit(c, rand, n) {
    const { items } = await c.call("lib.control", "state");
    const any = items[rand(Math.max(1, items.length))];
    const owner = people[rand(people.length)];
    const someone = `lib.person.${people[1 + rand(people.length - 1)]}`;
    const done = [
      () => c.call("lib.items", "new", { name: `n${n}`, owner, idx: rand(items.length + 1) }).then((made) => c.unsubscribe(made.rid)),
      () => c.call("lib.items", "remove", { id: any.id }),
      () => c.call("lib.items", "move", { id: any.id, idx: rand(items.length) }),
      () => c.call(`lib.item.${any.id}`, "set", { name: `m${n}`, owner }),
      () => c.call(someone, "set", { friend: owner }),
      () => c.call(someone, "set", { name: `p${n}` }),
      () => c.subscribe(someone).then(() => c.unsubscribe(someone)),
      () => c.subscribe("lib.items").then(() => c.unsubscribe("lib.items")),
    ][any && items.length > 4 ? rand(8) : 0]();
    await done.catch((error) => {
      if (error.code !== "system.notFound") throw error;
    });
  }

  it("converges when two clients edit in parallel, and references form cycles", async () => {
    const lists = await Promise.all([client, other].map((c) => c.subscribe("lib.items")));
    for (let round = 0; round < 6; round++) {
      await Promise.all(
        [client, other].map(async (c, who) => {
          const rand = random(seed + 1000 * round + who);
          for (let n = 0; n < 20; n++) {
            await Promise.all(Array.from({ length: 1 + rand(5) }, (_, k) => edit(c, rand, `${who}.${round}.${n}.${k}`)));
          }
        }),
      );
      for (const list of lists) await converged(client, list);
    }
  });

  it("converges after a restart of the gateway, with moves during it", async () => {
    const second = await new Gateway(["--nats", service.nats]).run();
    const editor = new Client(second.url, { WebSocket });
    clients.push(editor);
    editor.connect();
    try {
      await online(editor);
      const list = await client.subscribe("lib.items");
      const rand = random(seed);
      for (let round = 0; round < 4; round++) {
        await gateway.stop(round % 2 ? "SIGKILL" : "SIGTERM");
        await until(() => client.state !== "online", "the client is offline");
        const item = list.items[0];
        for (let n = 0; n < 12; n++) await edit(editor, rand, `${round}.${n}`);
        await gateway.run();
        client.connect(); // as the page's button does
        await online(client);
        await converged(editor, list);
        if (list.items.some((i) => i.rid === item.rid)) assert.ok(list.items.includes(item), "what survived is the same object");
        for (let n = 0; n < 12; n++) await edit(editor, rand, `${round}.up.${n}`);
        await converged(editor, list);
      }
    } finally {
      await second.stop();
    }
  });
});

/** A WebSocket that the test plays the gateway for. */
class Scripted extends EventTarget {
  static all = [];
  readyState = 0;
  sent = [];

  constructor(url) {
    super();
    this.url = url;
    Scripted.all.push(this);
  }
  send(text) {
    this.sent.push(JSON.parse(text));
  }
  close() {
    this.readyState = 3;
  }
  open() {
    this.readyState = 1;
    this.onopen();
  }
  says(message) {
    this.onmessage({ data: typeof message === "string" ? message : JSON.stringify(message) });
  }
  /** Responds to the oldest request without a response; resolves when what follows from it has been done. */
  async answers(result) {
    this.says({ id: this.sent.shift().id, result });
    await new Promise(setImmediate);
  }
}

describe("sluice-client alone", () => {
  let client;

  beforeEach(() => {
    Scripted.all = [];
    mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1000 });
    client = new Client("ws://example.com/", { WebSocket: Scripted });
  });
  afterEach(() => {
    client.close();
    mock.timers.reset();
    mock.restoreAll();
  });

  const socket = () => Scripted.all.at(-1);
  const wait = () => client.retryAt - Date.now();
  const comeOnline = async () => {
    socket().open();
    await socket().answers({ protocol: "1.2.3" });
    assert.equal(client.state, "online");
  };

  it("waits longer from attempt to attempt, at random, and not more than 30 s", () => {
    client.connect();
    for (const random of [0, 1]) {
      mock.method(Math, "random", () => random);
      for (let n = 0; n < 9; n++) {
        socket().onclose({ code: 1006 });
        const most = Math.min(30_000, 500 * 2 ** (n + 9 * random));
        assert.equal(wait(), most * (0.5 + random / 2));
        const sockets = Scripted.all.length;
        mock.timers.tick(wait() - 1);
        assert.equal(Scripted.all.length, sockets);
        mock.timers.tick(1);
        assert.equal(Scripted.all.length, sockets + 1);
      }
    }
  });

  it("waits longer for a gateway that restarts, stops, or has closed a slow client", async () => {
    mock.method(Math, "random", () => 0);
    for (const code of [1001, 1012, 1013]) {
      client.connect();
      await comeOnline();
      mock.timers.tick(10_001); // it has lasted
      socket().onclose({ code });
      assert.equal(wait(), 1000, `${code}`);
    }
  });

  it("counts only connections that last", async () => {
    mock.method(Math, "random", () => 0);
    client.connect();
    for (const want of [250, 500, 1000]) {
      await comeOnline();
      socket().onclose({ code: 1006 });
      assert.equal(wait(), want);
      mock.timers.tick(wait());
    }
    await comeOnline();
    mock.timers.tick(10_001);
    socket().onclose({ code: 1006 });
    assert.equal(wait(), 250);
  });

  /** A client of a list of gateways, and the loss of its connection. */
  const listed = (urls, options) => {
    client = new Client(urls, { WebSocket: Scripted, ...options });
    client.connect();
  };
  const lose = (code, reason = "") => {
    socket().onclose({ code, reason });
    mock.timers.tick(wait());
  };

  it("goes from gateway to gateway while none answers, each with a pause of its own", async () => {
    mock.method(Math, "random", () => 0);
    listed(["ws://a/", "ws://b/"]);
    const tried = [];
    for (let n = 0; n < 6; n++) {
      tried.push(`${client.url} ${Date.now()}`);
      lose(1006);
    }
    assert.deepEqual(tried, ["ws://a/ 1000", "ws://b/ 1250", "ws://a/ 1500", "ws://b/ 1750", "ws://a/ 2000", "ws://b/ 2250"]);
    assert.ok(wait() <= 1000, "the pauses of one do not add to those of the other");
  });

  it("comes back to the same gateway after a loss, and leaves one that has ended it or is gone", async () => {
    listed(["ws://a/", "ws://b/"]);
    await comeOnline();
    lose(1006);
    assert.equal(socket().url, "ws://a/");
    lose(1006);
    assert.equal(socket().url, "ws://b/");
    await comeOnline();
    lose(1013);
    assert.equal(socket().url, "ws://b/", "it was slow, which is nothing of the gateway's");
    await comeOnline();
    lose(1001);
    assert.equal(socket().url, "ws://a/");
  });

  it("gives up a handshake that takes too long", () => {
    listed(["ws://a/", "ws://b/"]);
    mock.timers.tick(10_000);
    assert.equal(client.state, "offline");
    assert.equal(client.url, "ws://b/");
  });

  it("goes where the gateway sends it, in its list", async () => {
    mock.method(Math, "random", () => 0);
    listed(["wss://a/", "wss://b/", "wss://c/"]);
    await comeOnline();
    socket().onclose({ code: 1001, reason: "try wss://c" });
    assert.equal(client.url, "wss://c/");
    assert.equal(wait(), 1000, "and not immediately: so do all");
    mock.timers.tick(wait());
    await comeOnline();
    lose(1012, "try wss://b/");
    await comeOnline();
    socket().onclose({ code: 1012, reason: "try https://a/" });
    assert.equal(client.url, "wss://a/");
    mock.timers.tick(wait());
    assert.equal(socket().url, "wss://a/");
  });

  it("is not sent to a gateway that has failed just now", async () => {
    mock.method(Math, "random", () => 0);
    listed(["ws://a/", "ws://b/", "ws://c/"]);
    await comeOnline();
    lose(1001, "try ws://b/");
    socket().onclose({ code: 1006 });
    assert.equal(client.url, "ws://c/");
    client.connect(); // without a pause
    await comeOnline();
    socket().onclose({ code: 1001, reason: "try ws://b/" });
    assert.equal(client.url, "ws://a/");
  });

  it("is not led to a foreign host, nor out of TLS", async () => {
    const asked = [];
    const follow = (url) => asked.push(url) && url.includes("friend");
    for (const [hint, options, want] of [
      ["wss://evil.example/", {}, "wss://b.example/"],
      ["ws://a.example/", {}, "wss://b.example/"],
      ["wss://a.example:444/", {}, "wss://b.example/"],
      ["wss://a.example@evil.example/", {}, "wss://b.example/"],
      ["javascript:alert(1)", { follow }, "wss://b.example/"],
      ["not a URL", { follow }, "wss://b.example/"],
      ["/elsewhere", { follow }, "wss://b.example/"],
      ["", { follow }, "wss://b.example/"],
      ["wss://a.example/other/path", {}, "wss://a.example/other/path"],
      ["wss://evil.example/", { follow }, "wss://b.example/"],
      ["ws://friend.example/", { follow }, "wss://b.example/"],
      ["wss://friend.example/", { follow }, "wss://friend.example/"],
      ["https://friend.example/ws", { follow }, "https://friend.example/ws"],
    ]) {
      listed(["wss://a.example/", "wss://b.example/"], options);
      await comeOnline();
      socket().onclose({ code: 1012, reason: `try ${hint}` });
      assert.equal(client.url, want, hint);
      client.close();
    }
    assert.deepEqual(asked, ["wss://evil.example/", "wss://friend.example/", "wss://friend.example/ws"]);
  });

  it("takes hints of a gateway that ends, and of no other", async () => {
    listed(["ws://a/", "ws://b/", "ws://c/"]);
    for (const code of [1000, 1006, 1008, 1013]) {
      await comeOnline();
      mock.timers.tick(10_001);
      lose(code, "try ws://c/");
      assert.equal(socket().url, "ws://a/", `${code}`);
    }
  });

  it("makes the WebSockets of another client", () => {
    const make = dialer(["ws://a/", "ws://b/", "ws://c/"], { WebSocket: Scripted });
    const end = (s, code, reason) => s.dispatchEvent(Object.assign(new Event("close"), { code, reason }));
    const a = make();
    a.dispatchEvent(new Event("open"));
    end(a, 1001, "try ws://c/");
    const c = make();
    end(c, 1006, "");
    assert.deepEqual([a.url, c.url, make().url], ["ws://a/", "ws://c/", "ws://b/"]);
    mock.timers.tick(10_000);
    assert.equal(socket().readyState, 3, "a handshake that takes too long");
  });

  it("needs a gateway", () => {
    assert.throws(() => new Client([], { WebSocket: Scripted }), /pass a URL/);
  });

  it("gives up a connection on which nothing arrives", async () => {
    client.connect();
    await comeOnline();
    const call = client.call("a.b", "c").catch((error) => error.code);
    mock.timers.tick(15_000);
    assert.equal(client.state, "offline");
    assert.equal(await call, "client.disconnected");
  });

  it("subscribes again on a new connection, and emits only what has changed", async () => {
    client.connect();
    await comeOnline();
    const subscribed = client.subscribe("a.list");
    await socket().answers({ collections: { "a.list": [1, 2, { rid: "a.m" }] }, models: { "a.m": { x: 1 } } });
    const list = await subscribed;
    const m = list.items[2];
    const events = [];
    list.on("add", ({ value, idx }) => events.push(["add", value, idx]));
    list.on("remove", ({ value, idx }) => events.push(["remove", value, idx]));
    m.on("change", ({ changed }) => events.push(["change", { ...changed }]));
    socket().onclose({ code: 1006 });
    client.connect();
    await comeOnline();
    assert.deepEqual(socket().sent.map((r) => r.method), ["subscribe.a.list"]);
    await socket().answers({ collections: { "a.list": [2, 3, { rid: "a.m" }] }, models: { "a.m": { x: 2 } } });
    assert.deepEqual(events.sort(), [["add", 3, 1], ["change", { x: 1 }], ["remove", 1, 0]]);
    assert.deepEqual(list.items, [2, 3, m]);
  });

  it("asks for the report of lost custom events, and emits it", async () => {
    client.connect();
    socket().open();
    assert.deepEqual(socket().sent[0], { id: 1, method: "version", params: { protocol: "1.2.3", eventsLost: true } });
    await socket().answers({ protocol: "1.2.3", eventsLost: true });
    const subscribed = client.subscribe("a.m");
    await socket().answers({ models: { "a.m": {} } });
    const lost = [];
    (await subscribed).on("eventsLost", (data) => lost.push(data));
    socket().says({ event: "a.m.eventsLost", data: { count: 17 } });
    assert.deepEqual(lost, [{ count: 17 }]);
  });

  it("resolves with a resource that could not be loaded, and is not subscribed to it", async () => {
    client.connect();
    await comeOnline();
    const made = client.call("a.list", "new");
    await socket().answers({ rid: "a.m", errors: { "a.m": { code: "system.accessDenied", message: "Access denied" } } });
    assert.equal((await made).error.code, "system.accessDenied");
    client.unsubscribe("a.m");
    assert.deepEqual(socket().sent, []);
  });

  it("ends a connection on which no JSON arrives", async () => {
    client.connect();
    await comeOnline();
    socket().says("{");
    assert.equal(client.state, "offline");
  });

  it("needs a WebSocket", () => {
    assert.throws(() => new Client("ws://example.com/", { WebSocket: null }), /pass that of the package "ws"/);
  });
});

describe("the package sluice-client", () => {
  const folder = join(import.meta.dirname, "../../../docs/client");

  it("waits as long as Retry-After says, where the WebSocket shows it", async () => {
    const server = createServer((request, response) => response.writeHead(503, { "Retry-After": "7" }).end());
    await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
    server.on("upgrade", (request, stream) => stream.end("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"));
    const client = new Client(`ws://127.0.0.1:${server.address().port}/`, { WebSocket });
    const began = Date.now();
    client.connect();
    await until(() => client.state === "offline", "the handshake is rejected");
    assert.ok(client.retryAt >= began + 7000);
    client.close();
    server.closeAllConnections();
    server.close();
  });

  it("goes where a response with 503 sends it, without waiting for Retry-After", async () => {
    const full = createServer();
    await new Promise((listening) => full.listen(0, "127.0.0.1", listening));
    const url = (host) => `ws://${host}:${full.address().port}/`;
    full.on("upgrade", (request, stream) =>
      stream.end(`HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nSluice-Alternate: ${url("localhost")}\r\nContent-Length: 0\r\n\r\n`),
    );
    const client = new Client([url("127.0.0.1"), "ws://127.0.0.1:1/", url("localhost")], { WebSocket });
    client.connect();
    await until(() => client.state === "offline", "the handshake is rejected");
    assert.equal(client.url, url("localhost"));
    assert.ok(client.retryAt - Date.now() < 7000, "another gateway is tried soon");
    client.close();
    full.closeAllConnections();
    full.close();
  });

  it("has what it says, and is small", () => {
    const dir = mkdtempSync(join(tmpdir(), "sluice-e2e-"));
    try {
      const [packed] = JSON.parse(execFileSync("npm", ["pack", "--json", "--pack-destination", dir], { cwd: folder, encoding: "utf8" }));
      const files = packed.files.map(({ path }) => path).sort();
      assert.deepEqual(files, ["LICENSE", "README.md", "client.d.ts", "client.js", "package.json"]);
      assert.equal(readFileSync(join(folder, "LICENSE"), "utf8"), readFileSync(join(folder, "../../LICENSE"), "utf8"));
      const small = execFileSync("npx", ["--no-install", "esbuild", "--minify", join(folder, "client.js")], { cwd: join(folder, "../../examples"), encoding: "utf8" });
      assert.ok(small.length < 10_000, `${small.length} bytes`);
      // Everything that the module exports has a type, and nothing else.
      const names = (file) => [...readFileSync(join(folder, file), "utf8").matchAll(/^export class (\w+)/gm)].map((m) => m[1]).sort();
      assert.deepEqual(names("client.d.ts"), names("client.js"));
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });
});
