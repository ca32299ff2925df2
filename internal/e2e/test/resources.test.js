// Models, collections, references, custom events and errors, as ResClient shows them.

import assert from "node:assert/strict";
import { after, before, beforeEach, afterEach, describe, it } from "node:test";

import { connect, keep, plain } from "../support/client.js";
import { Gateway, Service } from "../support/process.js";
import { failure, next, until } from "../support/wait.js";

describe("resources", () => {
  let service, gateway, client, other;

  before(async () => {
    service = await new Service().run();
    gateway = await new Gateway(["--nats", service.nats, "--reqtimeout", "500"]).run();
  });
  after(async () => {
    await gateway.stop();
    await service.stop();
  });
  beforeEach(async () => {
    [client, other] = await Promise.all([connect(gateway.url), connect(gateway.url)]);
  });
  afterEach(() => {
    client.disconnect();
    other.disconnect();
  });

  it("shows every kind of value of a model", async () => {
    const info = await keep(client, "lib.info");
    assert.equal(info.title, "Library");
    assert.equal(info.count, 3);
    assert.equal(info.ratio, 0.5);
    assert.equal(info.open, true);
    assert.equal(info.nothing, null);
    assert.deepEqual(info.tags, ["a", "b"]);
    assert.equal(info.see.rid, "lib.person.ada");
    assert.equal(info.head.name, "Ada");
    assert.equal(info.head.friend.name, "Bea");
    assert.equal(info.head.friend.friend, info.head, "a cycle of references");
  });

  it("folds change events, with new and deleted properties", async () => {
    const [mine, theirs] = await Promise.all([keep(client, "lib.info"), keep(other, "lib.info")]);
    let heard = next(mine, "change");
    await theirs.call("set", { count: 4, extra: "new" });
    assert.deepEqual(await heard, { count: 3, extra: undefined });
    assert.equal(mine.count, 4);
    assert.equal(mine.extra, "new");

    heard = next(mine, "change");
    await theirs.call("drop", { key: "extra" });
    assert.deepEqual(await heard, { extra: "new" });
    assert.ok(!("extra" in mine.props));

    heard = next(mine, "change");
    await theirs.call("set", { count: 4, title: "Libraries" }); // the count is as it was
    assert.deepEqual(await heard, { title: "Library" });
    await theirs.call("set", { count: 3, title: "Library" });
  });

  it("loads what a change newly refers to, and follows it", async () => {
    const [mine, theirs] = await Promise.all([keep(client, "lib.person.ada"), keep(other, "lib.person.ada")]);
    let heard = next(mine, "change");
    await theirs.call("set", { friend: "cyd" });
    await heard;
    assert.equal(mine.friend.name, "Cyd");
    assert.equal(mine.friend.friend.code, "system.notFound", "a reference to what is not there is an error in its place");
    heard = next(mine.friend, "change");
    await other.call("lib.person.cyd", "set", { name: "Cydney" });
    await heard;
    assert.equal(mine.friend.name, "Cydney");
    heard = next(mine, "change");
    await theirs.call("set", { friend: "bea" });
    await heard;
    assert.equal(mine.friend.friend, mine, "back in the cycle, though Bea had been out of reach");
  });

  it("folds add and remove events of a list of values", async () => {
    const mine = await keep(client, "lib.notes");
    assert.deepEqual(mine.toArray(), ["one", 2, true, null, "five"]);
    let heard = next(mine, "add");
    await other.call("lib.notes", "add", { value: "zero", idx: 0 });
    assert.deepEqual(await heard, { item: "zero", idx: 0 });
    heard = next(mine, "add");
    await other.call("lib.notes", "add", { value: 6.5, idx: 6 });
    await heard;
    heard = next(mine, "remove");
    await other.call("lib.notes", "remove", { idx: 3 });
    assert.deepEqual(await heard, { item: true, idx: 3 });
    assert.deepEqual(mine.toArray(), ["zero", "one", 2, null, "five", 6.5]);
  });

  it("folds the events of a list of references, and of what it refers to", async () => {
    const mine = await keep(client, "lib.items");
    const before = plain.items(mine);
    let heard = next(mine, "add");
    const made = await other.call("lib.items", "new", { name: "Walden", owner: "ada", idx: 1 });
    assert.equal(made.name, "Walden", "a resource answer is the resource");
    const { item, idx } = await heard;
    assert.equal(idx, 1);
    assert.equal(item.owner.name, "Ada");
    heard = next(item, "change");
    await made.call("set", { name: "Walden; or, Life in the Woods", owner: "dan" });
    await heard;
    assert.equal(item.owner.name, "Dan");
    heard = next(mine, "remove");
    await other.call("lib.items", "remove", { id: made.id });
    await heard;
    assert.deepEqual(plain.items(mine), before);
  });

  it("passes custom events on, with and without a payload", async () => {
    const mine = await keep(client, "lib.info");
    const shout = next(mine, "shout");
    const bell = next(mine, "bell");
    const payload = { text: "hey", list: [1, { a: null }], ü: "ß\u0000" };
    await other.call("lib.info", "shout", payload);
    assert.deepEqual(await shout, payload);
    assert.equal(await bell, undefined);
  });

  it("ends the subscription of what is deleted", async () => {
    const made = await client.call("lib.temp.t1", "make");
    made.on(null, () => {});
    const deleted = next(made, "delete");
    const ended = next(made, "unsubscribe");
    await other.call("lib.temp.t1", "destroy");
    await deleted;
    await ended;
    assert.equal((await failure(other.get("lib.temp.t1"))).code, "system.notFound");
  });

  it("follows a system reset by the difference", async () => {
    const [info, notes, items] = await Promise.all(["lib.info", "lib.notes", "lib.items"].map((rid) => keep(client, rid)));
    const stays = items.atIndex(0);
    await other.call("lib.control", "scramble");
    const state = await other.call("lib.control", "state");
    await until(
      () => JSON.stringify(plain.items(items)) === JSON.stringify(state.items) &&
        JSON.stringify(notes.toArray()) === JSON.stringify(state.notes) && info.count === 99,
      () => `items ${JSON.stringify(plain.items(items))}, service ${JSON.stringify(state)}`,
    );
    assert.ok(items.indexOf(stays) >= 0, "what was there before is the same object");
  });

  it("answers with the service's errors and its own", async () => {
    const codes = {
      "lib.faulty": "lib.broken",
      "lib.item.999": "system.notFound",
      "nobody.home": "system.notFound",
      "lib.mute": "system.timeout",
      "lib.search?limit=many": "system.invalidQuery",
      "lib..items": "system.invalidRequest",
    };
    for (const [rid, code] of Object.entries(codes)) {
      assert.equal((await failure(client.get(rid))).code, code, rid);
    }
    const custom = await failure(client.call("lib.faulty", "custom"));
    assert.equal(custom.code, "lib.teapot");
    assert.equal(custom.message, "Short and stout");
    assert.deepEqual(custom.data, { handle: "here", spouts: 1 });
    assert.equal((await failure(client.call("lib.faulty", "params"))).message, "no such thing");
    assert.equal((await failure(client.call("lib.faulty", "panic"))).code, "system.internalError");
    assert.equal((await failure(client.call("lib.faulty", "nope"))).code, "system.methodNotFound");
    assert.equal((await failure(client.call("nobody.home", "call"))).code, "system.notFound");
    assert.equal(await client.call("lib.faulty", "echo"), null);
    const params = { a: [1, 2.5, -3e10], b: { c: "\"\\\u2028é😀" } };
    assert.deepEqual(await client.call("lib.faulty", "echo", params), params);
  });

  it("waits longer for an answer when the service asks for time", async () => {
    assert.equal(await client.call("lib.slow", "wait", { ms: 1200 }), "at last");
  });
});
