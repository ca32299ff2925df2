// Each program below examples/, as a newcomer sees it: in two windows of a browser.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";

import { launch, nameless, noBrowser } from "../support/browser.js";
import { patience, until } from "../support/wait.js";

const root = join(import.meta.dirname, "../../..");
const folder = join(root, "examples");
const bin = join(root, "bin", "examples");
const names = readdirSync(folder).filter((name) => existsSync(join(folder, name, "main.go")));

describe("the examples", { skip: noBrowser }, () => {
  let browser, example, complaints;
  const tried = new Set();

  before(async () => {
    for (const name of names) assert.ok(existsSync(join(bin, name)), `${name} is not built: run "make examples" first`);
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    assert.deepEqual([...tried].sort(), names.sort(), "each example has a test");
  });
  afterEach(async () => {
    await Promise.all(browser.contexts().map((context) => context.close()));
    assert.equal(await example.stop(), 0, example.output);
    assert.deepEqual(complaints, [], "the browser has nothing to complain about");
  });

  /** Runs an example on a free port. */
  async function run(name, ...args) {
    tried.add(name);
    complaints = [];
    const child = spawn(join(bin, name), ["-port", "-1", ...args], { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
    const ended = new Promise((done) => child.once("close", (code, signal) => done(code ?? signal)));
    example = { output: "", stop: () => (child.kill("SIGTERM"), ended) };
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (example.output += text));
    const address = /http:\/\/\S+/;
    await until(() => {
      assert.equal(child.exitCode, null, example.output);
      return address.test(example.output);
    }, () => `${name} is ready\n${example.output}`);
    example.url = address.exec(example.output)[0];
  }

  /** Opens the example's page in a window of its own. */
  async function open(path = "", origin = example.url) {
    const context = await browser.newContext();
    context.setDefaultTimeout(patience);
    context.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
    context.on("weberror", (error) => complaints.push(error.error().stack));
    const page = await context.newPage();
    await page.goto(origin + path);
    return page;
  }
  const shows = (page, selector, text) => page.locator(selector, { hasText: text }).first().waitFor();
  const listed = (page, selector, want) =>
    until(async () => JSON.stringify(await page.locator(selector).allTextContents()) === JSON.stringify(want), () => `${selector} shows ${want}`);

  it("hello", async () => {
    await run("hello");
    const [a, b] = [await open(), await open()];
    await shows(a, "#count", "0");
    await shows(b, "#count", "0");
    await a.getByRole("button").click();
    await shows(a, "#count", "1");
    await shows(b, "#count", "1");
    assert.deepEqual(await a.evaluate(nameless), []);
  });

  it("books", async () => {
    await run("books");
    const [a, b] = [await open(), await open()];
    const titles = (page) => page.locator("#books input").evaluateAll((all) => all.map((input) => input.value));
    const both = (want) =>
      until(async () => [await titles(a), await titles(b)].every((got) => got.join() === want), () => `both show ${want}`);
    await both("Emma,Walden");
    await a.getByLabel("Title").first().fill("Persuasion");
    await a.keyboard.press("Enter");
    await both("Persuasion,Walden");
    await b.getByPlaceholder("Title").fill("Dubliners");
    await b.getByPlaceholder("Author").fill("James Joyce");
    await b.keyboard.press("Enter");
    await both("Persuasion,Walden,Dubliners");
    await a.getByRole("button", { name: "Remove" }).nth(1).click();
    await both("Persuasion,Dubliners");
    assert.deepEqual(await a.evaluate(nameless), []);
  });

  it("chat", async () => {
    await run("chat");
    const [a, b] = [await open(), await open()];
    const join = async (page, name) => {
      await page.getByLabel("Your name").fill(name);
      await page.keyboard.press("Enter");
      await page.locator("#send").waitFor();
    };
    await join(a, "Ada");
    await shows(b, "#people", "Ada");
    await join(b, "Bob");
    await shows(a, "#people", "Ada, Bob");
    await a.getByLabel("Message").fill("<b>Hello</b>");
    await a.keyboard.press("Enter");
    await listed(b, "#messages li", ["Ada<b>Hello</b>"]);
    await listed(a, "#messages li", ["Ada<b>Hello</b>"]);
    await a.context().close();
    await until(async () => (await b.locator("#people").textContent()) === "Bob", "who has left is not shown");
    assert.deepEqual(await b.evaluate(nameless), []);
  });

  it("presence", async () => {
    await run("presence");
    const first = await open();
    const gateways = (page, want) => listed(page, "#clients td:first-child", want);
    await gateways(first, ["edge-1"]);
    const other = await first.locator("#second").getAttribute("href");
    const second = await open("", other);
    for (const page of [first, second]) await gateways(page, ["edge-1", "edge-2"]);
    const say = async (page, name) => {
      await page.getByLabel("Your name").fill(name);
      await page.keyboard.press("Enter");
    };
    await say(first, "<b>Ada</b>");
    await say(second, "Bob");
    for (const page of [first, second]) await listed(page, "#clients td:nth-child(2)", ["<b>Ada</b>", "Bob"]);
    await first.getByRole("button", { name: "Kill it" }).click();
    await gateways(first, ["edge-1"]);
    await listed(first, "#clients td:nth-child(2)", ["<b>Ada</b>"]);
    await second.context().close();
    complaints = complaints.filter((text) => !text.includes("WebSocket connection to")); // it has lost its gateway
    await first.getByRole("button", { name: "Start it" }).click();
    await until(async () => (await first.locator("#second").getAttribute("href")) !== other, "the second gateway has another port");
    const third = await open("", await first.locator("#second").getAttribute("href"));
    for (const page of [first, third]) await gateways(page, ["edge-1", "edge-2"]);
    await third.context().close();
    await gateways(first, ["edge-1"]);
    assert.deepEqual(await first.evaluate(nameless), []);
  });

  it("login", async () => {
    await run("login");
    const page = await open();
    const signIn = async (password) => {
      await page.getByLabel("Name", { exact: true }).fill("ada");
      await page.getByLabel("Password").fill(password);
      await page.keyboard.press("Enter");
    };
    await signIn("wrong");
    await shows(page, "[role=alert]", "Wrong name or password");
    await signIn("engine");
    await shows(page, "#secret", "under the mat");
    await page.getByRole("button", { name: "Sign out" }).click();
    await until(async () => (await page.locator("#secret").textContent()) === "", "the secret is gone");
    assert.deepEqual(await page.evaluate(nameless), []);
  });

  it("jwt", async () => {
    await run("jwt", "-lifetime", "2s");
    const [ada, bob] = [await open(), await open()];
    const signIn = async (page, name, password) => {
      await page.getByLabel("Name", { exact: true }).fill(name);
      await page.getByLabel("Password").fill(password);
      await page.keyboard.press("Enter");
    };
    const plan = (page, want) => until(async () => (await page.getByLabel("Plan").inputValue()) === want, () => `the plan is ${want}`);
    const save = async (page, text) => {
      await page.getByLabel("Plan").fill(text);
      await page.getByRole("button", { name: "Save" }).click();
    };
    await signIn(ada, "ada", "wrong");
    await shows(ada, "[role=alert]", "Wrong name or password");
    await until(() => complaints.length > 0, "the browser mentions the status");
    assert.match(complaints.pop(), /403/);
    assert.ok(await ada.locator("#plan").isHidden());
    await signIn(ada, "ada", "engine");
    await signIn(bob, "bob", "bridge");
    await plan(bob, "Repair the upper gate.");
    await plan(ada, "Repair the upper gate.");
    await save(ada, "Paint the lower gate.");
    await plan(bob, "Paint the lower gate.");
    await save(bob, "Nothing");
    await shows(bob, "[role=alert]", "Access denied");

    // Ada's page renews its token. Bob's does not from now on, and loses the plan.
    await bob.getByLabel("Renew").uncheck();
    await bob.locator("#plan").waitFor({ state: "hidden" });
    await until(async () => Number(await ada.locator("#renewals").textContent()) > 3, "the token is renewed");
    await ada.locator("#plan").waitFor();
    const again = await ada.context().newPage(); // with the login server's cookie
    await again.goto(example.url);
    await again.locator("#plan").waitFor();
    await until(async () => {
      await save(ada, "Fill the basin.");
      return (await again.getByLabel("Plan").inputValue()) === "Fill the basin.";
    }, "the plan may still be edited");
    await ada.getByRole("button", { name: "Sign out" }).click();
    await ada.locator("#plan").waitFor({ state: "hidden" });
    assert.deepEqual(await ada.evaluate(nameless), []);
  });

  it("pages", async () => {
    await run("pages");
    const [a, b] = [await open(), await open()];
    await listed(a, "#words li", ["barge", "basin", "bridge", "canal", "eddy"]);
    await a.getByRole("button", { name: "Next" }).click();
    await listed(a, "#words li", ["ferry", "ford", "gate", "harbour", "lock"]);
    await b.getByLabel("A word").fill("anchor");
    await b.keyboard.press("Enter");
    await listed(b, "#words li", ["anchor", "barge", "basin", "bridge", "canal"]);
    await listed(a, "#words li", ["eddy", "ferry", "ford", "gate", "harbour"]);
    await a.getByLabel("Begins with").fill("mo");
    await listed(a, "#words li", ["moor"]);
    assert.deepEqual(await a.evaluate(nameless), []);
  });

  it("todo", async () => {
    await run("todo");
    const [react, vue] = [await open("react.html"), await open("vue.html")];
    const both = async (want) => {
      for (const page of [react, vue]) await listed(page, "#app li span", want);
    };
    await both(["Oil the gate", "Read the gauge"]);
    await react.getByLabel("Item").fill("<Paint>");
    await react.keyboard.press("Enter");
    await both(["Oil the gate", "Read the gauge", "<Paint>"]);
    await vue.getByRole("button", { name: "Done" }).first().click();
    await both(["Read the gauge", "<Paint>"]);
    await vue.getByLabel("Item").fill("Close");
    await vue.keyboard.press("Enter");
    await both(["Read the gauge", "<Paint>", "Close"]);
    assert.deepEqual([...(await react.evaluate(nameless)), ...(await vue.evaluate(nameless))], []);
  });

  it("ticker", async () => {
    await run("ticker");
    const page = await open();
    await until(async () => Number(await page.locator("#changes").textContent()) > 3, "prices change");
    await listed(page, "#stocks td:first-child", ["FORD", "HEAD", "LOCK", "PENS", "WEIR"]);
  });
});
