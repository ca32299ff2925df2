// The demo page's client module against the gateway: what it teaches is what works.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";

import { Client, Collection, Failed, Model, ResError, SoftRef } from "../support/page.js";
import { Gateway, Service } from "../support/process.js";
import { random, seed } from "../support/random.js";
import { failure, next, until } from "../support/wait.js";

/** As next, for this client, whose "on" returns the function that ends it. */
const heard = (target, name) => {
  let end;
  return next({ on: (n, fn) => (end = target.on(n, fn)), off: () => end() }, name);
};

const online = (client) => until(() => client.state === "online", "the client is online");

describe(`the page's client (E2E_SEED=${seed})`, () => {
  let service, gateway, clients, client, other;

  const open = (options) => {
    const c = new Client(gateway.url, options);
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
    const editor = new Client(second.url);
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
