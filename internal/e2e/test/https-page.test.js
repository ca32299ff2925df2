// "sluice demo" over TLS with compression, in a browser: the page, and what a page can do with web resources.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";

import { launch, noBrowser } from "../support/browser.js";
import { clients } from "../support/https.js";
import { Gateway, Service } from "../support/process.js";
import { certificate } from "../support/tls.js";
import { patience, until } from "../support/wait.js";

describe("the demo over TLS", { skip: noBrowser }, () => {
  let demo, pages, site, service, other, browser, context, complaints, provoked, tls;

  before(async () => {
    tls = certificate();
    demo = await new Gateway(["--embedded-nats-listen", "127.0.0.1:0", "--wscompression"], { command: ["demo"], tls }).run();
    // A site whose pages another gateway lets in, with the cookies that their browser has.
    pages = createServer({ cert: tls.pem, key: readFileSync(tls.key) }, (request, response) => {
      response.setHeader("Content-Type", "text/html");
      response.end(`<!doctype html><link rel="icon" href="data:,"><title>a guest</title>`);
    }).listen(0, "127.0.0.1");
    await once(pages, "listening");
    site = `https://127.0.0.1:${pages.address().port}`;
    service = await new Service().run();
    other = await new Gateway(["--nats", service.nats, "--alloworigin", site, "--headauth", "lib.auth.cookie", "--wsheadauth", "lib.auth.cookie"], { tls }).run();
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    pages?.close();
    assert.equal(await demo.stop(), 0, `the demo ends in peace\n${demo.output}`);
    assert.equal(await other.stop(), 0, other.output);
    await service.stop();
  });
  beforeEach(async () => {
    complaints = [];
    provoked = /$^/; // complaints that a test provokes, which may be late
    context = await browser.newContext({ ignoreHTTPSErrors: true });
    context.setDefaultTimeout(patience);
    context.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
    context.on("weberror", (error) => complaints.push(error.error().stack));
  });
  afterEach(async () => {
    await context.close();
    assert.deepEqual(complaints.filter((text) => !provoked.test(text)), [], "the browser has nothing to complain about");
  });

  /** Opens the page in a new tab, and waits until the data is there. */
  async function tab(prepare = async () => {}) {
    const page = await context.newPage();
    await prepare(page);
    await page.goto(`${demo.origin}/`);
    await page.locator("#connection[data-state=online]").waitFor();
    await page.locator(".book").first().waitFor();
    await page.locator("#tickers tr").nth(7).waitFor();
    return page;
  }

  /** Opens a page of another site: the demo's own forbids itself to ask others. */
  async function guest(origin) {
    const page = await context.newPage();
    await page.goto(`${origin}/`);
    return page;
  }

  it("shows live data on a compressed WebSocket", async () => {
    const upgrades = [];
    const sockets = [];
    const page = await tab(async (page) => {
      page.on("websocket", (socket) => sockets.push(socket.url()));
      const devtools = await context.newCDPSession(page);
      devtools.on("Network.webSocketHandshakeResponseReceived", ({ response }) => upgrades.push(response));
      await devtools.send("Network.enable");
    });
    assert.deepEqual(sockets, [demo.url]);
    await until(() => upgrades.length === 1, "the handshake");
    assert.equal(upgrades[0].status, 101);
    const [, extensions] = Object.entries(upgrades[0].headers).find(([name]) => name.toLowerCase() === "sec-websocket-extensions") ?? [];
    assert.match(extensions, /^permessage-deflate/);
    assert.equal(await page.evaluate(() => isSecureContext && performance.getEntriesByType("navigation")[0].nextHopProtocol), "h2");

    const prices = () => page.locator("td.price").allInnerTexts();
    const before = await prices();
    await until(async () => (await prices()).filter((p, i) => p !== before[i]).length >= 4, "the prices move");
  });

  it("has two tabs edit one list", async () => {
    const [ada, bea] = [await tab(), await tab()];
    await ada.getByLabel("Your name").fill("Ada");
    await ada.keyboard.press("Enter");
    await ada.locator("#add-fields:enabled").waitFor();
    const title = "Long Title ".repeat(9).trim(); // its events are long enough to be compressed
    await ada.getByLabel("Title", { exact: true }).fill(title);
    await ada.getByLabel("Author", { exact: true }).fill("Somebody ".repeat(10).trim());
    await ada.getByRole("button", { name: "Add book" }).click();
    await bea.getByLabel(`Title of “${title}”`).waitFor();
    await ada.getByRole("button", { name: `Remove “${title}”` }).click();
    await bea.getByLabel(`Title of “${title}”`).waitFor({ state: "detached" });
  });

  it("comes back after a restart", async () => {
    const page = await tab();
    await demo.stop("SIGKILL");
    await page.locator("#connection[data-state=offline]").waitFor();
    await demo.run();
    await page.locator("#connection[data-state=online]").waitFor();
    const price = await page.locator("td.price").first().innerText();
    await until(async () => (await page.locator("td.price").first().innerText()) !== price, "the prices move again");
    complaints = complaints.filter((text) => !/WebSocket connection to .* failed/.test(text)); // logged by Chromium
  });

  it("fetches resources, and receives their events", { timeout: 2 * patience }, async () => {
    const page = await tab();
    const got = await page.evaluate(async () => {
      const books = await fetch("/api/demo/books");
      const again = await fetch("/api/demo/books", { cache: "no-cache" }); // asks with If-None-Match
      const options = await fetch("/api/demo/tickers", { method: "OPTIONS" });
      const titles = (await books.json()).map((book) => book.model.title);
      return { status: books.status, titles, again: again.status, same: (await again.json()).length, allow: options.headers.get("allow") };
    });
    assert.equal(got.status, 200);
    assert.equal(got.again, 200, "the page does not see the 304");
    assert.deepEqual(got.titles, await page.locator(".book .title").evaluateAll((fields) => fields.map((field) => field.value)));
    assert.equal(got.same, got.titles.length);
    assert.match(got.allow, /GET.*POST/);

    const events = await page.evaluate(
      () =>
        new Promise((done, failed) => {
          const live = new EventSource("/api/demo/tickers");
          const heard = [];
          live.onerror = () => failed(new Error(`the stream broke after ${heard.length} events`));
          live.onmessage = ({ data }) => {
            heard.push(JSON.parse(data));
            if (heard.length < 10) return;
            live.close();
            done(heard);
          };
        }),
    );
    assert.equal(events[0].rid, "demo.tickers");
    assert.ok(events.slice(1).every(({ event, data }) => /^demo\.ticker\..*change$/.test(event) && data.values), JSON.stringify(events.slice(1)));
  });

  it("lets a page of an allowed origin use another's resources, with its cookies", { timeout: 2 * patience }, async () => {
    await context.addCookies([{ name: "user", value: "root", url: other.origin, secure: true, httpOnly: true }]);
    const page = await guest(site);
    const got = await page.evaluate(async (origin) => {
      const ask = async (path, options) => {
        const answer = await fetch(`${origin}/api/lib/${path}`, options);
        return [answer.status, await answer.text()];
      };
      const credentials = "include";
      const secret = await ask("secret", { credentials });
      // JSON is something that the browser asks for leave to send.
      const headers = { "Content-Type": "application/json" };
      const set = await ask("secret/set", { method: "POST", credentials, headers, body: '{"word":"abracadabra"}' });
      const live = new EventSource(`${origin}/api/lib/secret`, { withCredentials: true });
      const events = await new Promise((done, failed) => {
        const heard = [];
        live.onerror = () => failed(new Error("the stream broke"));
        live.onmessage = ({ data }) => {
          if (heard.push(JSON.parse(data)) === 2) done(heard);
          else ask("secret/set", { method: "POST", credentials, headers, body: '{"word":"sesame"}' }).catch(failed);
        };
      });
      live.close();
      const socket = new WebSocket(origin.replace("http", "ws"));
      const answer = new Promise((done, failed) => {
        socket.onmessage = ({ data }) => done(JSON.parse(data));
        socket.onerror = () => failed(new Error("no WebSocket"));
      });
      socket.onopen = () => socket.send('{"id":1,"method":"call.lib.secret.read"}');
      const read = await answer;
      socket.close();
      return { secret, set, events, read };
    }, other.origin);
    assert.deepEqual(got, {
      secret: [200, '{"word":"sesame"}'],
      set: [204, ""],
      events: [
        { rid: "lib.secret", models: { "lib.secret": { word: "abracadabra" } } },
        { event: "lib.secret.change", data: { values: { word: "sesame" } } },
      ],
      read: { id: 1, result: "sesame" },
    });

    // Without credentials the browser sends no cookie, and the page reads why it is refused.
    const refused = await page.evaluate(async (origin) => {
      const answer = await fetch(`${origin}/api/lib/secret`, { credentials: "omit" });
      return [answer.status, (await answer.json()).code];
    }, other.origin);
    assert.deepEqual(refused, [401, "system.accessDenied"]);
    await until(() => complaints.length > 0, "the browser's word on that");
    assert.equal(complaints.length, 1, complaints.join());
    assert.match(complaints.pop(), /status of 401/); // logged by Chromium
  });

  it("keeps out the pages of all others", { timeout: 2 * patience }, async () => {
    await context.addCookies([{ name: "user", value: "root", url: other.origin, secure: true, httpOnly: true }]);
    const page = await guest(site.replace("127.0.0.1", "localhost"));
    const got = await page.evaluate(async (origin) => {
      const tried = (promise) => promise.then((answer) => answer.status, (error) => error.name);
      const first = (target) => new Promise((done) => ["open", "error"].forEach((type) => target.addEventListener(type, () => target.close() ?? done(type))));
      const headers = { "Content-Type": "application/json" };
      const [get, post, live, socket] = await Promise.all([
        tried(fetch(`${origin}/api/lib/info`)),
        tried(fetch(`${origin}/api/lib/info/set`, { method: "POST", headers, body: '{"title":"stolen"}', credentials: "include" })),
        first(new EventSource(`${origin}/api/lib/info`, { withCredentials: true })),
        first(new WebSocket(origin.replace("http", "ws"))),
      ]);
      return { get, post, live, socket };
    }, other.origin);
    assert.deepEqual(got, { get: "TypeError", post: "TypeError", live: "error", socket: "error" });
    const http = clients.find(({ name }) => name === "Node over HTTP/2").make(other, tls);
    assert.equal(JSON.parse((await http.get("/api/lib/info")).body).title, "Library", "it had no effect");
    http.close();
    assert.ok(complaints.length > 0, "and the browser names the reason");
    provoked = /CORS policy|ERR_FAILED|status of 403|response code: 403/;
  });
});
