// The admin page in a browser, of a gateway with the demo's clients and events.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";

import { launch, nameless, noBrowser, poorContrast, screenshot } from "../support/browser.js";
import { Gateway } from "../support/process.js";
import { Stuck } from "../support/stuck.js";
import { patience, until } from "../support/wait.js";

const token = "0123456789-abcdefghij";

describe("the admin page", { skip: noBrowser }, () => {
  const folder = mkdtempSync(join(tmpdir(), "sluice-admin-"));
  let demo, locked, browser, context, complaints, expected;

  /** Starts the demo with an admin port; its URL is in the log. */
  async function start(...args) {
    const g = await new Gateway(["--embedded-nats-listen", "127.0.0.1:0", "--admin-port", "-1", "--reqtimeout", "600000", ...args], { command: ["demo"] }).run();
    const line = /admin server listening" url=(\S+)/;
    await g.ready(() => line.test(g.output), "the admin port does not listen");
    g.admin = line.exec(g.output)[1];
    return g;
  }

  before(async () => {
    writeFileSync(join(folder, "token"), token);
    demo = await start();
    locked = await start("--admin-token-file", join(folder, "token"));
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    assert.equal(await demo.stop(), 0, demo.output);
    assert.equal(await locked.stop(), 0, locked.output);
    rmSync(folder, { recursive: true, force: true });
  });
  beforeEach(async () => {
    complaints = [];
    expected = /^$/;
    context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
    context.setDefaultTimeout(patience);
    context.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
    context.on("weberror", (error) => complaints.push(error.error().stack));
    context.on("response", (response) => response.status() >= 400 && complaints.push(`${response.url()}: ${response.status()}`));
    context.on("request", (request) => !/^(http:\/\/127\.0\.0\.1:|ws:\/\/127\.0\.0\.1:|blob:)/.test(request.url()) && complaints.push(`foreign: ${request.url()}`));
  });
  afterEach(async () => {
    await context.close();
    assert.deepEqual(complaints.filter((c) => !expected.test(c)), [], "the browser has nothing to complain about");
  });

  /** Opens the demo's page, a client with subscriptions. */
  async function client() {
    const page = await context.newPage();
    await page.goto(demo.origin);
    await page.locator("#connection[data-state=online]").waitFor();
    await page.locator("#tickers tr").nth(7).waitFor();
    return page;
  }
  async function admin(media = {}) {
    const page = await context.newPage();
    await page.emulateMedia(media);
    await page.goto(demo.admin);
    await page.locator("#state[data-state=ready]").waitFor();
    return page;
  }

  it("shows charts and lists that live", async () => {
    await client();
    for (const colorScheme of ["light", "dark"]) {
      const page = await admin({ colorScheme });
      await page.locator("#hot button", { hasText: "demo.ticker." }).first().waitFor();
      await page.locator("#owners td", { hasText: "event loop 0" }).waitFor();
      await page.locator("#services td", { hasText: "demo" }).first().waitFor();
      await page.getByText("no client is slow").waitFor();
      const values = () => page.locator("#charts figcaption b").allInnerTexts();
      await until(async () => (await values()).every((v) => v !== "–"), "all charts have a value");
      await until(async () => parseFloat((await values())[0]) > 0, "deliveries are counted");
      await until(async () => (await page.locator("#charts polyline").first().getAttribute("points")).split(" ").length >= 2, "a chart is drawn");
      assert.deepEqual(await page.evaluate(poorContrast), []);
      assert.deepEqual(await page.evaluate(nameless), []);
      await screenshot(page, `admin-${colorScheme}`);
    }
  });

  it("leads from a resource to its clients, to one of them, and disconnects it", async () => {
    const user = await client();
    const page = await admin();
    await page.locator("#hot button", { hasText: "demo.ticker." }).first().click();
    await page.locator("#details pre", { hasText: '"price"' }).waitFor();
    await page.getByText("Last event").waitFor();
    await page.getByRole("button", { name: "Its clients" }).click();
    await page.locator("#found caption", { hasText: "1 found" }).waitFor();
    await page.locator("#found button").first().click();
    await page.locator("#details-title", { hasText: "Connection " }).waitFor();
    await page.locator("#details td", { hasText: "granted" }).first().waitFor();

    let left = false;
    user.on("websocket", () => (left = true)); // it connects again
    page.once("dialog", (dialog) => dialog.accept());
    await page.getByRole("button", { name: "Disconnect" }).click();
    await page.locator("#message", { hasText: "disconnected" }).waitFor();
    await until(() => left, "the client connects again");
  });

  it("traces a resource and a connection while messages pass, filters and stops", async () => {
    const user = await client();
    const page = await admin();
    const state = page.locator("#trace-state");
    const rows = page.locator("#trace-lines tbody tr");
    await page.locator("#hot button", { hasText: "demo.ticker." }).first().click();
    await page.getByRole("button", { name: "Trace", exact: true }).click();
    await state.getByText(/^on, \d+ s left/).waitFor();
    await rows.filter({ hasText: "event.demo.ticker." }).filter({ hasText: '"price"' }).first().waitFor();
    await rows.filter({ hasText: "fanout" }).filter({ hasText: "1 clients" }).first().waitFor();

    await page.locator("#trace-filter").fill("fanout");
    await until(async () => (await rows.filter({ visible: true }).count()) > 0, "some lines pass the filter");
    assert.equal(await rows.filter({ hasText: "event.demo." }).filter({ visible: true }).count(), 0);
    await page.locator("#trace-filter").fill("");
    await page.locator("#trace-stop").click();
    await state.getByText("stopped").waitFor();

    await page.getByRole("button", { name: "Its clients" }).click();
    await page.locator("#found button").first().click();
    await page.locator("#details-title", { hasText: "Connection " }).waitFor();
    await page.getByRole("button", { name: "Trace", exact: true }).click();
    await rows.filter({ hasText: "out" }).filter({ hasText: "demo.ticker." }).first().waitFor();
    assert.deepEqual(await page.evaluate(poorContrast), []);
    assert.deepEqual(await page.evaluate(nameless), []);
    await screenshot(page, "admin-trace");
    await user.close();
    await state.getByText("the connection is closed").waitFor();

    expected = /404|400/;
    await page.locator("#trace-by").selectOption("resource");
    await page.locator("#trace-what").fill("a..b");
    await page.getByRole("button", { name: "Start" }).click();
    await page.locator("#message.error", { hasText: "must be a pattern" }).waitFor();
  });

  it("lists requests in progress, those of one service, and of one client", async () => {
    const service = await Stuck.of(demo);
    const response = fetch(`${demo.origin}/api/stuck/one?token=sesame`);
    const page = await admin();
    const rows = page.locator("#requests tbody tr");
    const row = rows.filter({ hasText: "access.stuck.one" });
    await row.filter({ hasText: "stuck.one?token=…" }).filter({ hasText: "http" }).waitFor();
    await page.getByLabel("of the service").fill("demo");
    await page.getByLabel("of the service").press("Enter");
    await rows.getByText("none").waitFor();
    await page.getByLabel("of the service").fill("stuck");
    await page.getByLabel("of the service").press("Enter");
    await row.getByRole("button").click();
    await page.locator("#details-title", { hasText: "Connection " }).waitFor();
    await page.locator("#details tr", { hasText: "access.stuck.one" }).waitFor();
    assert.deepEqual(await page.evaluate(poorContrast), []);
    assert.deepEqual(await page.evaluate(nameless), []);
    await service.release();
    assert.equal((await response).status, 404);
    await rows.getByText("none").waitFor();
  });

  it("finds connections, and says when there is none", async () => {
    await client();
    const page = await admin();
    const find = async (by, what) => {
      await page.locator("#find-by").selectOption(by);
      await page.locator("#find-what").fill(what);
      await page.getByRole("button", { name: "Find" }).click();
    };
    await find("addr", "127.0.0.0/8");
    await page.locator("#found caption", { hasText: "1 found" }).waitFor();
    await find("field", "name=nobody");
    await page.locator("#found caption", { hasText: "0 found" }).waitFor();
    await find("name", "demo.books");
    await page.locator("#details-title", { hasText: "Resource demo.books" }).waitFor();
    expected = /404|400/;
    await find("cid", "<img src=x onerror=alert(1)>");
    await page.locator("#message.error", { hasText: "not a connection ID" }).waitFor();
    await find("resource", "a..b");
    await page.locator("#message.error", { hasText: "resource ID" }).waitFor();
  });

  it("resets, flushes, changes the log level and takes a profile", async () => {
    await client();
    const page = await admin();
    await page.locator("#reset-pattern").fill("demo.>");
    await page.getByRole("button", { name: "Reset" }).click();
    await page.locator("#message", { hasText: "fetched again" }).waitFor();
    await page.locator("#flush-name").fill("demo.books");
    await page.getByRole("button", { name: "Flush" }).click();
    await page.locator("#message", { hasText: "0 evicted, 1 fetched again" }).waitFor();
    await page.locator("#level:enabled").selectOption("debug");
    await page.locator("#message", { hasText: "log level: debug" }).waitFor();
    const download = page.waitForEvent("download");
    await page.locator("#profile-kind").selectOption("heap");
    await page.getByRole("button", { name: "Take" }).click();
    assert.equal((await download).suggestedFilename(), "sluice-heap.pb.gz");
    await page.locator("#message", { hasText: "go tool pprof" }).waitFor();
  });

  it("asks for the token, and takes only the right one", async () => {
    expected = /401/;
    const page = await context.newPage();
    await page.goto(locked.admin);
    await page.locator("#login").waitFor();
    assert.equal(await page.locator("main").isVisible(), false);
    const signIn = async (text) => {
      await page.locator("#token").fill(text);
      await page.getByRole("button", { name: "Sign in" }).click();
    };
    await signIn("wrong-0123456789");
    await page.locator("#login-error", { hasText: "adminTokenFile" }).waitFor();
    await signIn(token);
    await page.locator("#state[data-state=ready]").waitFor();
    await page.locator("main").waitFor();
    await page.reload();
    await page.locator("#state[data-state=ready]").waitFor();
    assert.ok(!locked.output.includes(token), "the token is not logged");
  });
});
