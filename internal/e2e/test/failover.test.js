// Two gateways on one NATS: clients of one that is killed, or stops, arrive at the other, with all that they hold exact.

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";

import WebSocket from "ws";

import { Client, dialer } from "../../../docs/client/client.js";
import { connect, keep, plain } from "../support/client.js";
import { freePort, Gateway, Service } from "../support/process.js";
import { next, until } from "../support/wait.js";

describe("failover", () => {
  let service, first, second, editor, mine;

  beforeEach(async () => {
    service = await new Service().run();
    second = await new Gateway(["--nats", service.nats]).run();
    first = await new Gateway(["--nats", service.nats, "--alternate", second.url]).run();
    editor = await connect(second.url);
  });
  afterEach(async () => {
    mine?.close();
    editor.disconnect();
    await first.stop();
    await second.stop();
    await service.stop();
  });

  /** A WebSocket that notes where it connects to. */
  const noting = (dialed) =>
    class extends WebSocket {
      constructor(url) {
        super(url, { allowSynchronousEvents: false });
        dialed.push(url);
      }
    };

  /** Changes the items without the client, brings it back by back(), and compares what it holds with the service. */
  const moves = async (list, back) => {
    for (let n = 0; n < 5; n++) await editor.call("lib.items", "new", { name: `missed ${n}`, idx: n });
    await back();
    const same = async () => {
      const { items } = await editor.call("lib.control", "state");
      await until(() => JSON.stringify(list()) === JSON.stringify(items), () => `the client holds ${JSON.stringify(list())}`);
    };
    await same();
    await editor.call("lib.items", "new", { name: "an event of the other gateway", idx: 1 });
    await same();
  };

  for (const [how, signal] of [["is killed", "SIGKILL"], ["stops", "SIGTERM"]]) {
    it(`ResClient goes to the other gateway when its own ${how}`, async () => {
      const dialed = [];
      // Where the list alone would lead next, no gateway listens.
      const urls = [first.url, `ws://127.0.0.1:${await freePort()}/`, second.url];
      const client = await connect(dialer(urls, { WebSocket: noting(dialed) }));
      mine = { close: () => client.disconnect() };
      const items = await keep(client, "lib.items");
      assert.deepEqual(dialed, [first.url]);
      const back = next(client, "connect");
      await first.stop(signal);
      await moves(() => plain.items(items), () => back);
      assert.equal(dialed.at(-1), second.url);
      if (signal === "SIGTERM") assert.deepEqual(dialed, [first.url, second.url], "the hint leads there directly");
    });

    it(`sluice-client goes to the other gateway when its own ${how}`, async () => {
      const dialed = [];
      mine = new Client([first.url, `ws://127.0.0.1:${await freePort()}/`, second.url], { WebSocket: noting(dialed) });
      mine.connect();
      const items = await mine.subscribe("lib.items");
      await first.stop(signal);
      const list = () => items.items.map(({ props }) => ({ id: props.id, name: props.name, owner: props.owner ? props.owner.rid.split(".").at(-1) : "" }));
      await moves(list, () => until(() => mine.state === "online" && mine.url === second.url, "the client is at the other gateway"));
      if (signal === "SIGTERM") assert.deepEqual(dialed, [first.url, second.url], "the hint leads there directly");
    });
  }
});
