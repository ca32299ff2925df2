// Web resources over TLS, with curl and with Node, over HTTP/1.1 and HTTP/2.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { gunzipSync } from "node:zlib";

import { connect, keep } from "../support/client.js";
import { clients } from "../support/https.js";
import { Gateway, Service } from "../support/process.js";
import { certificate, wire } from "../support/tls.js";
import { next, until } from "../support/wait.js";

describe("HTTPS", () => {
  let service, gateway, tls;

  before(async () => {
    tls = certificate();
    service = await new Service().run();
    gateway = await new Gateway(["--nats", service.nats, "--putmethod", "set"], { tls }).run();
  });
  after(async () => {
    assert.equal(await gateway.stop(), 0, gateway.output);
    await service.stop();
  });

  for (const { name, version, skip, make } of clients) {
    describe(name, { skip }, () => {
      let http;
      beforeEach(() => (http = make(gateway, tls)));
      afterEach(() => http.close());

      const json = (response) => JSON.parse(response.body);
      const set = async (params) => {
        const done = await http.get("/api/lib/info/set", { method: "POST", body: JSON.stringify(params) });
        assert.equal(done.status, 204);
        assert.equal(done.body.length, 0);
      };

      it("gets resources and calls methods", async () => {
        const info = await http.get("/api/lib/info");
        assert.equal(info.version, version);
        assert.equal(info.status, 200);
        assert.equal(info.headers["content-type"], "application/json; charset=utf-8");
        assert.equal(Number(info.headers["content-length"]), info.body.length);
        assert.deepEqual({ title: json(info).title, tags: json(info).tags, see: json(info).see }, { title: "Library", tags: ["a", "b"], see: { href: "/api/lib/person/ada" } });
        const items = json(await http.get("/api/lib/items"));
        assert.deepEqual(items.map((item) => item.model.name), ["Emma", "Dune", "Ulysses"]);

        const head = await http.get("/api/lib/info", { method: "HEAD" });
        assert.equal(head.status, 200);
        assert.equal(head.body.length, 0);
        assert.equal(head.headers["content-length"], info.headers["content-length"]);
        assert.equal(head.headers.etag, info.headers.etag);

        const params = { text: "ü€😀", list: Array.from({ length: 20_000 }, (_, n) => n) };
        const echo = await http.get("/api/lib/faulty/echo", { method: "POST", body: JSON.stringify(params) });
        assert.equal(echo.status, 200);
        assert.deepEqual(json(echo), params);
        assert.equal((await http.get("/api/lib/info", { method: "PUT", body: '{"count":7}' })).status, 204);
        assert.equal(json(await http.get("/api/lib/info")).count, 7);
        await set({ count: 3 });
        const made = await http.get("/api/lib/temp/x/make", { method: "POST" });
        assert.deepEqual([made.status, made.headers.location], [200, "/api/lib/temp/x"]);
        assert.equal((await http.get("/api/lib/temp/x/destroy", { method: "POST" })).status, 204);
      });

      it("responds with the error", async () => {
        for (const [path, options, status, code] of [
          ["/api/lib/temp/none", {}, 404, "system.notFound"],
          ["/api/lib/secret", {}, 401, "system.accessDenied"],
          ["/api/lib/faulty", {}, 400, "lib.broken"],
          ["/api/lib/info", { method: "DELETE" }, 405, "system.methodNotAllowed"],
          ["/api/lib/info/none", { method: "POST" }, 404, "system.methodNotFound"],
          ["/api/lib/faulty/echo", { method: "POST", body: "{" }, 400, "system.badRequest"],
          // An answer that ends before the request does is to be read all the same (RFC 9113 section 8.1). curl 7 may drop it.
          ...(name === "curl over HTTP/2" ? [] : [["/api/lib/faulty/echo", { method: "POST", body: `"${"x".repeat(1 << 20)}"` }, 413, null]]),
        ]) {
          const answer = await http.get(path, options);
          assert.equal(answer.status, status, path);
          if (code) assert.equal(json(answer).code, code, path);
        }
        assert.equal((await http.get("/api/lib/info")).status, 200, "and then all is well");
      });

      it("sends again only what has changed", async () => {
        const first = await http.get("/api/lib/info");
        assert.match(first.headers.etag, /^(W\/)?"[^"]+"$/);
        assert.equal(first.headers["cache-control"], "no-cache");
        const ask = (etag) => http.get("/api/lib/info", { headers: { "If-None-Match": etag } });
        for (const etag of [first.headers.etag, `"other", ${first.headers.etag}`, "*"]) {
          const same = await ask(etag);
          assert.equal(same.status, 304, etag);
          assert.equal(same.body.length, 0);
          assert.equal(same.headers.etag, first.headers.etag);
        }
        await set({ title: "Bookshop" });
        const second = await ask(first.headers.etag);
        assert.equal(second.status, 200);
        assert.equal(json(second).title, "Bookshop");
        assert.notEqual(second.headers.etag, first.headers.etag);
        await set({ title: "Library" });
        assert.equal((await ask(first.headers.etag)).status, 304, "what it is, not when it was, counts");
      });

      it("compresses long responses for clients that accept it", async () => {
        const accept = { "Accept-Encoding": "gzip" };
        const short = await http.get("/api/lib/info", { headers: accept });
        assert.equal(short.headers["content-encoding"], undefined);

        const title = "All work and no play makes Jack a dull boy. ".repeat(1000);
        await set({ title });
        const plain = await http.get("/api/lib/info");
        assert.equal(plain.headers["content-encoding"], undefined);
        assert.equal(json(plain).title, title);
        const packed = await http.get("/api/lib/info", { headers: accept });
        assert.equal(packed.headers["content-encoding"], "gzip");
        assert.match(packed.headers.vary, /Accept-Encoding/i);
        assert.ok(packed.body.length < plain.body.length / 20, `${plain.body.length} bytes were sent in ${packed.body.length}`);
        assert.deepEqual(gunzipSync(packed.body), plain.body);
        const same = await http.get("/api/lib/info", { headers: { ...accept, "If-None-Match": packed.headers.etag } });
        assert.equal(same.status, 304);
        await set({ title: "Library" });
      });

      it("streams events", async () => {
        const live = await http.stream("/api/lib/info");
        try {
          assert.deepEqual([live.version, live.status], [version, 200]);
          assert.match(live.headers["content-type"], /^text\/event-stream/);
          const set1 = await live.events.next();
          assert.equal(set1.rid, "lib.info");
          assert.equal(set1.models["lib.info"].title, "Library");
          // More than a TLS record, and more than HTTP/2's first window.
          const titles = ["short", "long ".repeat(10_000), "ü€😀", "longer ".repeat(20_000), "Library"];
          for (const title of titles) {
            await set({ title });
            assert.deepEqual(await live.events.next(), { event: "lib.info.change", data: { values: { title } } });
          }
          // Many in parallel: none is lost, and the last one has the final state.
          await Promise.all(Array.from({ length: 20 }, (_, n) => set({ count: n + 100 })));
          await set({ count: 3 });
          let last;
          do last = await live.events.next();
          while (last.data.values.count !== 3);
          assert.equal(live.events.ended, false);
        } finally {
          live.events.close();
        }
        await until(() => live.events.ended, "the stream's end");

        const refused = await http.stream("/api/lib/secret");
        assert.equal(refused.status, 401);
        refused.events.close();
      });

      it("sees with streams and WebSockets the same", async () => {
        const client = await connect(wire(gateway.url, tls.pem));
        const live = await http.stream("/api/lib/items");
        try {
          const items = await keep(client, "lib.items");
          assert.equal((await live.events.next()).rid, "lib.items");
          const heard = next(items, "add");
          const made = await http.get("/api/lib/items/new", { method: "POST", body: '{"name":"Persuasion","idx":0}' });
          assert.equal(made.status, 200);
          const { item } = await heard;
          assert.equal(item.name, "Persuasion");
          assert.equal(made.headers.location, `/api/lib/item/${item.id}`);
          const event = await live.events.next();
          assert.deepEqual([event.event, event.data.idx, event.data.models[`lib.item.${item.id}`].name], ["lib.items.add", 0, "Persuasion"]);
          assert.equal(json(await http.get("/api/lib/items"))[0].model.name, "Persuasion");
          await client.call("lib.items", "remove", { id: item.id });
          // The item's deletion is another resource's event: it comes before or after.
          const gone = [await live.events.next()];
          if (gone[0].event === `lib.item.${item.id}.delete`) gone.push(await live.events.next());
          assert.deepEqual(gone.at(-1), { event: "lib.items.remove", data: { idx: 0 } });
          assert.equal(json(await http.get("/api/lib/items")).length, 3);
        } finally {
          live.events.close();
          client.disconnect();
        }
      });
    });
  }

  it("carries many requests and streams on one connection of HTTP/2", async () => {
    const http = clients.find(({ name }) => name === "Node over HTTP/2").make(gateway, tls);
    try {
      const live = await Promise.all(Array.from({ length: 30 }, () => http.stream("/api/lib/notes")));
      for (const { events } of live) assert.equal((await events.next()).rid, "lib.notes");
      const answers = await Promise.all(Array.from({ length: 60 }, () => http.get("/api/lib/info")));
      assert.ok(answers.every((answer) => answer.status === 200));
      await http.get("/api/lib/notes/add", { method: "POST", body: '{"value":"many","idx":0}' });
      for (const { events } of live) assert.deepEqual(await events.next(), { event: "lib.notes.add", data: { idx: 0, value: "many" } });
      for (const { events } of live.slice(1)) events.close();
      await http.get("/api/lib/notes/remove", { method: "POST", body: '{"idx":0}' });
      assert.deepEqual(await live[0].events.next(), { event: "lib.notes.remove", data: { idx: 0 } }, "the one that stays");
    } finally {
      http.close();
    }
  });
});
