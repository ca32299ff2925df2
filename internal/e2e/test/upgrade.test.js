// New processes take over from the gateway. ResClient, an event stream, and an HTTP connection that is kept, notice nothing.

import assert from "node:assert/strict";
import { Agent, get } from "node:http";
import { afterEach, beforeEach, describe, it } from "node:test";

import { connect, keep, plain } from "../support/client.js";
import { Gateway, Service } from "../support/process.js";
import { until } from "../support/wait.js";

describe("upgrade", { skip: process.platform !== "linux" && "upgrades need Linux" }, () => {
  let service, gateway, client, agent;

  beforeEach(async () => {
    service = await new Service().run();
    gateway = await new Gateway(["--nats", service.nats, "--drain-timeout", "100ms"]).run();
    client = await connect(gateway.url);
    agent = new Agent({ keepAlive: true, maxSockets: 1 });
  });
  afterEach(async () => {
    agent.destroy();
    client.disconnect();
    for (const pid of successors().slice(-1)) process.kill(pid, "SIGTERM"); // the first process has ended
    await gateway.stop();
    await service.stop();
  });

  const count = (text) => gateway.output.split(text).length - 1;
  const successors = () => [...gateway.output.matchAll(/msg="upgrade done" pid=(\d+)/g)].map(([, pid]) => Number(pid));

  /** Makes a request on the connection that is kept, and resolves with the status and the connection's own port. */
  const request = (path, headers = {}) =>
    new Promise((resolve, reject) => {
      get(gateway.origin + path, { agent, headers }, (response) => {
        const { localPort } = response.socket;
        response.resume().once("end", () => resolve({ status: response.statusCode, localPort }));
      }).once("error", reject);
    });

  /** Opens an event stream; chunks holds what has come, ended whether it is over. */
  const stream = (path) =>
    new Promise((resolve, reject) => {
      const s = { chunks: "", ended: false };
      get(gateway.origin + path, { headers: { accept: "text/event-stream" } }, (response) => {
        assert.equal(response.statusCode, 200);
        s.close = () => response.destroy();
        response.setEncoding("utf8").on("data", (text) => (s.chunks += text));
        for (const end of ["end", "error", "close"]) response.once(end, () => (s.ended = true));
        resolve(s);
      }).once("error", reject);
    });

  it("is not noticed by clients", async () => {
    const closed = [];
    client.on("disconnect", (e) => closed.push(e));
    const items = await keep(client, "lib.items");
    const events = await stream("/api/lib/items");
    const { localPort } = await request("/api/lib/items");
    const first = gateway.pid;
    for (let round = 1; round <= 2; round++) {
      process.kill(successors().at(-1) ?? first, "SIGUSR2");
      for (let n = 0; count("msg=stopped") < round; n++) {
        await client.call("lib.items", "new", { name: `round ${round}, ${n}`, idx: 0 });
        const { status } = await request("/api/lib/items");
        assert.equal(status, 200);
      }
      assert.equal(successors().length, round, gateway.output);
      const last = `after round ${round}`;
      await client.call("lib.items", "new", { name: last, idx: 0 });
      const state = (await client.call("lib.control", "state")).items;
      await until(() => JSON.stringify(plain.items(items)) === JSON.stringify(state), () => `ResClient holds ${JSON.stringify(plain.items(items))}`);
      await until(() => events.chunks.includes(last), () => `the stream has ${events.chunks}`);
      const again = await request("/api/lib/items");
      assert.deepEqual(again, { status: 200, localPort }, "the connection is kept");
    }
    assert.deepEqual(closed, []);
    assert.ok(!events.ended, "the stream goes on");
    events.close();
  });
});
