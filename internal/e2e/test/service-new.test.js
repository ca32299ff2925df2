// "sluice service new": the service in Node serves through a gateway as it was written. That in Go has a test in Go.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { Gateway, gatewayBinary, Service } from "../support/process.js";
import { until } from "../support/wait.js";

const modules = join(import.meta.dirname, "..", "node_modules");
const dir = mkdtempSync(join(tmpdir(), "sluice-e2e-"));
const nats = new Service();
let gateway;

before(async () => {
  await nats.run();
  gateway = await new Gateway(["--nats", nats.nats]).run();
});

after(async () => {
  await gateway?.stop();
  await nats.stop();
  rmSync(dir, { recursive: true, force: true });
});

test("a new service in Node runs and ends", async () => {
  execFileSync(gatewayBinary(), ["service", "new", "my-books", "-lang", "node"], { cwd: dir });
  const folder = join(dir, "my-books");
  const { dependencies } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  for (const [name, version] of Object.entries(dependencies)) {
    const here = JSON.parse(readFileSync(join(modules, name, "package.json"), "utf8"));
    assert.equal(here.version, version, `the template is tested with the version of ${name} that it requires`);
  }
  symlinkSync(modules, join(folder, "node_modules"));

  const child = spawn("node", ["service.js"], { cwd: folder, env: { ...process.env, NATS_URL: nats.nats }, stdio: ["ignore", "pipe", "pipe"] });
  const ended = new Promise((done) => child.once("close", (code, signal) => done(code ?? signal)));
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (output += text));
  try {
    await until(() => {
      assert.equal(child.exitCode, null, output);
      return output.includes("my-books is serving");
    }, "the service serves");

    const url = `${gateway.origin}/api/my-books/counter`;
    assert.deepEqual(await (await fetch(url)).json(), { count: 0 });
    assert.equal((await fetch(`${url}/increment`, { method: "POST" })).status, 204);
    assert.deepEqual(await (await fetch(url)).json(), { count: 1 });
    assert.equal((await (await fetch(`${url}/none`, { method: "POST" })).json()).code, "system.accessDenied");
    assert.equal((await fetch(`${gateway.origin}/api/my-books/toString`)).status, 404);

    child.kill("SIGTERM");
    assert.equal(await ended, 0, output);
  } finally {
    child.kill("SIGKILL");
    await ended;
  }
});
