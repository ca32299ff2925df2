// WebSockets over TLS: ResClient with and without compression, over restarts and over new certificates.

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, it } from "node:test";
import { connect as dial } from "node:tls";

import { connect, keep, plain } from "../support/client.js";
import { Gateway, Service } from "../support/process.js";
import { certificate, replace, wire } from "../support/tls.js";
import { failure, next, until } from "../support/wait.js";

const threshold = 256; // --compression-threshold's default
const opened = (socket) => once(socket, "open");
const untrusted = { code: /SELF_SIGNED_CERT/ };

describe("WebSockets over TLS", () => {
  let service, gateway, tls;

  before(async () => {
    tls = certificate();
    service = await new Service().run();
    gateway = await new Gateway(["--nats", service.nats, "--wscompression"], { tls }).run();
  });
  after(async () => {
    assert.equal(await gateway.stop(), 0, gateway.output);
    await service.stop();
  });

  /** The messages that the last socket got, each with its frame. */
  const delivered = async (socket) => {
    // A message that is inflated comes some time after its frame.
    await until(() => socket.messages.length === socket.received.length, "a message for each frame");
    return socket.received.map((frame, i) => ({ ...frame, size: socket.messages[i] }));
  };

  for (const version of ["TLSv1.2", "TLSv1.3"]) {
    for (const perMessageDeflate of [false, { threshold: 1024 }]) {
      it(`serves ResClient over ${version}, ${perMessageDeflate ? "compressed" : "plain"}`, async () => {
        const socket = wire(gateway.url, tls.pem, { perMessageDeflate, minVersion: version, maxVersion: version });
        const client = await connect(socket);
        try {
          assert.equal(socket.protocol, version);
          assert.equal(socket.socket.extensions, perMessageDeflate ? "permessage-deflate" : "");
          if (perMessageDeflate) assert.match(socket.answer, /^permessage-deflate(?=.*; server_no_context_takeover)(?=.*; client_no_context_takeover)/);
          else assert.equal(socket.answer, "");

          const [info, notes, items] = await Promise.all(["lib.info", "lib.notes", "lib.items"].map((rid) => keep(client, rid)));
          assert.equal(info.title, "Library");
          assert.deepEqual(plain.items(items).slice(0, 3).map((i) => i.name), ["Emma", "Dune", "Ulysses"]);
          assert.equal((await failure(client.get("lib.secret"))).code, "system.accessDenied");

          // Events: short, long, and long without a pattern that could be compressed. All below are text of one byte each.
          const short = "s".repeat(8);
          const long = "All work and no play makes Jack a dull boy. ".repeat(2000);
          let noise = "";
          for (let x = 1, n = 0; n < 3000; n++) noise += String.fromCharCode(35 + ((x = (x * 48271) % 2147483647) % 57));
          for (const title of [short, long, noise, "Library"]) {
            const heard = next(info, "change");
            await client.call("lib.info", "set", { title });
            await heard;
            assert.equal(info.title, title);
          }
          const heard = next(notes, "add");
          await client.call("lib.notes", "add", { value: "six", idx: 0 });
          await heard;
          assert.equal(notes.atIndex(0), "six");
          await client.call("lib.notes", "remove", { idx: 0 });

          // A long call there and back.
          const echo = { text: long, noise };
          assert.deepEqual(await client.call("lib.faulty", "echo", echo), echo);

          const got = await delivered(socket);
          const sum = (list, what) => list.reduce((all, one) => all + one[what], 0);
          const large = got.filter((m) => m.size > 80_000);
          assert.equal(large.length, 2, "the long event and the long answer");
          if (!perMessageDeflate) {
            assert.equal(got.some((m) => m.compressed) || socket.sent.some((m) => m.compressed), false);
            assert.ok(got.every((m) => m.wire > m.size), "no message is shorter on the wire");
            assert.ok(sum(socket.sent, "wire") > 2 * long.length);
            return;
          }
          for (const m of got.filter((m) => m.size < threshold)) assert.equal(m.compressed, false, `a message of ${m.size} bytes is plain`);
          for (const m of got.filter((m) => m.size >= threshold)) assert.ok(m.compressed && m.wire < m.size, `a message of ${m.size} bytes was sent in ${m.wire}`);
          assert.ok(got.some((m) => m.size < threshold), "some are short");
          assert.ok(Math.min(...large.map((m) => m.wire)) < long.length / 50, `${long.length} bytes of one sentence were sent in ${large.map((m) => m.wire)}`);
          assert.ok(sum(got, "wire") < sum(got, "size") / 5, "most of the input was compressed");
          const sent = socket.sent.filter((m) => m.compressed);
          assert.equal(sent.length, 3, "what the client sent compressed: the long title, the noise, the long call");
          assert.ok(sum(sent, "wire") < long.length / 5);
        } finally {
          client.disconnect();
        }
      });
    }
  }

  it("gives all who watch the same, whether they compress or not", async () => {
    const sockets = [true, false, true].map((perMessageDeflate) => wire(gateway.url, tls.pem, { perMessageDeflate }));
    const clients = await Promise.all(sockets.map((socket) => connect(socket)));
    try {
      const infos = await Promise.all(clients.map((client) => keep(client, "lib.info")));
      for (let n = 1; n <= 30; n++) {
        const title = `${n} `.repeat(n % 3 ? 20 : 2000);
        await clients[n % 3].call("lib.info", "set", { title });
        await Promise.all(infos.map((info) => until(() => info.title === title, "the title")));
      }
      const [first, none, third] = await Promise.all(sockets.map(delivered));
      assert.equal(none.some((m) => m.compressed), false);
      const long = (list) => list.filter((m) => m.size > 2000).map((m) => m.wire);
      assert.deepEqual(long(first), long(third), "one compressed frame for all");
      assert.equal(long(first).length, 10);
      assert.ok(Math.max(...long(first)) < Math.min(...long(none)));
      await clients[0].call("lib.info", "set", { title: "Library" });
    } finally {
      for (const client of clients) client.disconnect();
    }
  });

  it("does not compress without the setting", async () => {
    const reserved = await new Gateway(["--nats", service.nats], { tls }).run();
    const socket = wire(reserved.url, tls.pem, { perMessageDeflate: true });
    const client = await connect(socket);
    try {
      assert.equal(socket.answer, "");
      assert.equal((await keep(client, "lib.info")).title, "Library");
      assert.equal(socket.received.some((frame) => frame.compressed), false);
    } finally {
      client.disconnect();
      await reserved.stop();
    }
  });

  it("accepts TLS only, and has the identity of its certificate", async () => {
    await assert.rejects(opened(wire(gateway.url.replace("wss:", "ws:"))()), /response: 400/);
    await assert.rejects(opened(wire(gateway.url, certificate().pem)()), untrusted);
    const client = await connect(wire(gateway.url.replace("127.0.0.1", "localhost"), tls.pem, { family: 4 }));
    client.disconnect();
  });

  for (const perMessageDeflate of [false, true]) {
    it(`has ResClient reconnect after a restart, ${perMessageDeflate ? "compressed" : "plain"}`, async () => {
      const socket = wire(gateway.url, tls.pem, { perMessageDeflate });
      const client = await connect(socket);
      const second = await new Gateway(["--nats", service.nats, "--wscompression"], { tls }).run();
      const editor = await connect(wire(second.url, tls.pem));
      try {
        const [info, items] = await Promise.all([keep(client, "lib.info"), keep(client, "lib.items")]);
        for (const signal of ["SIGTERM", "SIGKILL"]) {
          const before = socket.socket;
          const lost = next(client, "disconnect");
          await gateway.stop(signal);
          await lost;
          await editor.call("lib.info", "set", { title: `during ${signal}` });
          await editor.call("lib.items", "new", { name: signal, idx: 0 });
          const back = next(client, "connect");
          await gateway.run();
          await back;
          await until(() => info.title === `during ${signal}` && items.atIndex(0)?.name === signal, "the changes during the restart");
          assert.notEqual(socket.socket, before);
          assert.equal(socket.socket.extensions, perMessageDeflate ? "permessage-deflate" : "");
          const heard = next(info, "change");
          await editor.call("lib.info", "set", { title: "Library" });
          await heard;
          const { items: list } = await editor.call("lib.control", "state");
          assert.deepEqual(plain.items(items), list);
          const gone = next(items, "remove");
          await editor.call("lib.items", "remove", { id: list[0].id });
          await gone;
        }
      } finally {
        client.disconnect();
        editor.disconnect();
        await second.stop();
      }
    });
  }

  it("takes a new certificate while clients are connected", async () => {
    const [old, fresh] = [certificate(), certificate()];
    const mine = await new Gateway(["--nats", service.nats, "--wscompression"], { tls: old }).run();
    const trusted = [old.pem, fresh.pem];
    /** The certificate that a new client sees; the handshake is checked in full. */
    const shown = async () => {
      const socket = dial({ host: "127.0.0.1", port: mine.port, ca: trusted });
      await once(socket, "secureConnect");
      const { raw } = socket.getPeerCertificate();
      socket.destroy();
      return raw.toString("base64");
    };
    const der = (pem) => pem.replace(/-----.*-----|\s/g, "");
    const socket = wire(mine.url, trusted, { perMessageDeflate: true });
    const client = await connect(socket);
    let late;
    try {
      const info = await keep(client, "lib.info");
      const first = socket.socket;
      const stillThere = async (title) => {
        const heard = next(info, "change");
        await client.call("lib.info", "set", { title });
        await heard;
        assert.equal(info.title, title);
        assert.equal(socket.socket, first, "the connection of before");
        assert.equal(first.readyState, first.OPEN);
      };
      assert.equal(await shown(), der(old.pem));

      // The certificate is there, its key is not: the old pair stays in use, and that is logged.
      replace(fresh.cert, old.cert);
      await until(async () => {
        assert.equal(await shown(), der(old.pem));
        return mine.output.includes("stays in use");
      }, () => `word of the pair that does not fit\n${mine.output}`);
      await stillThere("between");

      replace(fresh.key, old.key);
      await until(async () => (await shown()) === der(fresh.pem), () => `the new certificate\n${mine.output}`);
      await stillThere("Library");

      // A client that trusts the new one only comes in, one that trusts the old one only does not.
      const newcomer = wire(mine.url, fresh.pem, { perMessageDeflate: true });
      late = await connect(newcomer);
      const theirs = await keep(late, "lib.info");
      const heard = Promise.all([next(info, "change"), next(theirs, "change")]);
      await late.call("lib.info", "set", { count: 4 });
      await heard;
      assert.deepEqual([info.count, theirs.count], [4, 4]);
      await late.call("lib.info", "set", { count: 3 });
      await assert.rejects(opened(wire(mine.url, old.pem)()), untrusted);
    } finally {
      client.disconnect();
      late?.disconnect();
      assert.equal(await mine.stop(), 0, mine.output);
    }
  });
});
