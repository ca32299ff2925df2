// Signing in and out, what it changes, and resources of a connection's own.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";

import { connect, keep } from "../support/client.js";
import { Gateway, Service } from "../support/process.js";
import { failure, next, until } from "../support/wait.js";

describe("authentication", () => {
  let service, gateway, client;

  before(async () => {
    service = await new Service().run();
    gateway = await new Gateway(["--nats", service.nats]).run();
  });
  after(async () => {
    await gateway.stop();
    await service.stop();
  });
  beforeEach(async () => (client = await connect(gateway.url)));
  afterEach(() => client.disconnect());

  it("denies, grants, and distinguishes users from administrators", async () => {
    assert.equal((await failure(client.get("lib.secret"))).code, "system.accessDenied");
    assert.equal((await failure(client.call("lib.secret", "read"))).code, "system.accessDenied");
    const bad = await failure(client.authenticate("lib.auth", "login", { user: "eve", password: "guess" }));
    assert.equal(bad.code, "lib.badLogin");
    assert.equal((await failure(client.get("lib.secret"))).code, "system.accessDenied");

    assert.deepEqual(await client.authenticate("lib.auth", "login", { user: "ada", password: "secret" }), { user: "ada" });
    const secret = await keep(client, "lib.secret");
    assert.equal(secret.word, "sesame");
    assert.equal(await secret.call("read"), "sesame");
    assert.equal((await failure(secret.call("set", { word: "x" }))).code, "system.accessDenied");

    // As administrator one may change it. The subscription stays, and its access is requested again.
    await client.authenticate("lib.auth", "login", { user: "root", password: "secret" });
    const heard = next(secret, "change");
    await secret.call("set", { word: "alohomora" });
    await heard;
    assert.equal(secret.word, "alohomora");
    await secret.call("set", { word: "sesame" });
  });

  it("takes away what one may no longer see", async () => {
    await client.authenticate("lib.auth", "login", { user: "ada", password: "secret" });
    const secret = await keep(client, "lib.secret");
    const ended = next(secret, "unsubscribe");
    await client.authenticate("lib.auth", "logout");
    await ended;
    assert.equal((await failure(client.call("lib.secret", "read"))).code, "system.accessDenied");
  });

  it("keeps connections apart", async () => {
    const other = await connect(gateway.url);
    try {
      await client.authenticate("lib.auth", "login", { user: "ada", password: "secret" });
      await client.get("lib.secret");
      assert.equal((await failure(other.get("lib.secret"))).code, "system.accessDenied");

      const [mine, theirs] = await Promise.all([keep(client, "lib.mine.{cid}"), keep(other, "lib.mine.{cid}")]);
      const heard = next(mine, "change");
      await mine.call("touch");
      await heard;
      assert.equal(mine.private, false);
      assert.equal(theirs.private, true, "{cid} is another for each connection");
      assert.equal((await failure(client.get("lib.mine.guess"))).code, "system.accessDenied");
    } finally {
      other.disconnect();
    }
  });

  it("passes the client's HTTP request to the service", async () => {
    const told = await client.authenticate("lib.auth", "whence");
    assert.equal(told.host, `127.0.0.1:${gateway.port}`);
    assert.equal(told.uri, "/");
    assert.equal(told.remote, true);
  });

  it("signs in again on each new connection, before anything is asked for", async () => {
    client.setOnConnect((c) => c.authenticate("lib.auth", "login", { user: "root", password: "secret" }));
    await client.authenticate("lib.auth", "login", { user: "root", password: "secret" });
    const secret = await keep(client, "lib.secret");
    const lost = next(client, "disconnect");
    await gateway.stop();
    await lost;
    const back = next(client, "connect");
    await gateway.run();
    await back;
    await secret.call("set", { word: "after" });
    await until(() => secret.word === "after", "the change on the new connection");
    await secret.call("set", { word: "sesame" });
  });
});
