// `sluice top` and `sluice trace` in a real terminal, tmux, of a gateway with the demo's events.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

import WebSocket from "ws";

import { Gateway, gatewayBinary } from "../support/process.js";
import { Stuck } from "../support/stuck.js";
import { until } from "../support/wait.js";

const missing = (() => {
  try {
    execFileSync("tmux", ["-V"]);
    return false;
  } catch {
    return "tmux is not installed";
  }
})();

describe("sluice top in a terminal", { skip: missing }, () => {
  const folder = mkdtempSync(join(tmpdir(), "sluice-top-"));
  const tmux = (...args) => execFileSync("tmux", ["-S", join(folder, "tmux"), "-f", "/dev/null", ...args], { encoding: "utf8" });
  const screen = () => tmux("capture-pane", "-p", "-t", "top");
  const press = (...keys) => tmux("send-keys", "-t", "top", ...keys);
  let demo, socket, admin;

  const shows = (...texts) => until(() => texts.every((t) => screen().match(t)), () => `the terminal shows ${texts.join(", ")}\n${screen()}`);

  before(async () => {
    demo = await new Gateway(["--embedded-nats-listen", "127.0.0.1:0", "--admin-port", "-1", "--reqtimeout", "600000"], { command: ["demo"] }).run();
    const line = /admin server listening" url=(\S+)/;
    await demo.ready(() => line.test(demo.output), "the admin port does not listen");
    admin = line.exec(demo.output)[1].replace(/\/$/, "");
    socket = new WebSocket(demo.origin.replace("http", "ws"));
    await new Promise((done, failed) => Object.assign(socket, { onopen: done, onerror: failed }));
    socket.send('{"id":1,"method":"subscribe.demo.tickers"}');
  });
  after(async () => {
    socket?.close();
    try {
      tmux("kill-server");
    } catch {
      // it ends with its last window
    }
    assert.equal(await demo.stop(), 0, demo.output);
    rmSync(folder, { recursive: true, force: true });
  });

  it("shows the lists, traces a resource, returns and quits", async () => {
    tmux("new-session", "-d", "-s", "top", "-x", "140", "-y", "45", `${gatewayBinary()} top -url ${admin}; echo over; cat`);
    await shows(/Sluice .* ready · up/, /1 WebSockets/, /Hottest resources/, /demo\.ticker\./, /event loop 0/, /cache shard 0/);
    press("Down", "t");
    await shows(/Trace of demo\./, /event .*event\.demo\.ticker\..*"price"/, /fanout .* clients=1/);
    press("Escape");
    await shows(/Hottest resources/, /Slowest clients/);

    const service = await Stuck.of(demo);
    socket.send('{"id":7,"method":"get.stuck.one?token=sesame"}');
    await shows(/Oldest requests/, /access +get +stuck\.one\?token=… +access\.stuck\.one/);
    await service.release();
    await until(() => !screen().includes("stuck.one"), "the request has a response");
    press("q");
    await shows(/^over$/m);
  });

  it("prints a trace, and ends with Ctrl-C", async () => {
    tmux("new-window", "-t", "top", `${gatewayBinary()} trace -url ${admin} -resource 'demo.ticker.>'; echo exit code $?; cat`);
    await shows(/status .*left=\d+s/, /event .*event\.demo\.ticker\..*"price"/);
    press("C-c");
    await shows(/exit code 0/);
  });
});
