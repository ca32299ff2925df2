// "sluice demo" as a newcomer sees it: the page in a browser, in several tabs.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";

import { launch, nameless, noBrowser, poorContrast, screenshot } from "../support/browser.js";
import { Gateway } from "../support/process.js";
import { patience, until } from "../support/wait.js";

describe("the demo", { skip: noBrowser }, () => {
  let demo, browser, context, complaints;

  before(async () => {
    demo = await new Gateway(["--embedded-nats-listen", "127.0.0.1:0"], { command: ["demo"] }).run();
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    assert.equal(await demo.stop(), 0, `the demo ends in peace\n${demo.output}`);
  });
  beforeEach(async () => {
    complaints = [];
    context = await browser.newContext({ viewport: { width: 1280, height: 860 } });
    context.setDefaultTimeout(patience);
    context.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
    context.on("weberror", (error) => complaints.push(error.error().stack));
    context.on("requestfailed", (request) => complaints.push(`${request.url()}: ${request.failure().errorText}`));
    context.on("response", (response) => response.status() >= 400 && complaints.push(`${response.url()}: ${response.status()}`));
  });
  afterEach(async () => {
    await context.close();
    assert.deepEqual(complaints, [], "the browser has nothing to complain about");
  });

  const address = () => `http://127.0.0.1:${demo.port}/`;

  /** Opens the page in a new tab, and waits until the data is there. */
  async function tab({ media = {}, size } = {}) {
    const page = await context.newPage();
    await page.emulateMedia(media);
    if (size) await page.setViewportSize(size);
    await page.goto(address());
    await live(page);
    return page;
  }
  const live = async (page) => {
    await page.locator("#connection[data-state=online]").waitFor();
    await page.locator(".book").first().waitFor();
    await page.locator("#tickers tr").nth(7).waitFor();
  };
  const signIn = async (page, name) => {
    await page.getByLabel("Your name").fill(name);
    await page.keyboard.press("Enter");
    await page.getByText(`Signed in as ${name}`).waitFor();
    await page.locator("#add-fields:enabled").waitFor();
  };
  const readOnly = async (page) =>
    (await page.locator(".book input:not(:read-only), #add :enabled:is(input, button)").count()) === 0 &&
    (await page.getByRole("button", { name: /^Remove/ }).count()) === 0;
  const titles = (page) => page.locator(".book .title").evaluateAll((fields) => fields.map((f) => f.value));
  const book = (page, title) => page.getByLabel(`Title of “${title}”`);
  const row = (page, title) => page.locator(".book", { has: book(page, title) });
  const add = async (page, title, author) => {
    await page.getByLabel("Title", { exact: true }).fill(title);
    await page.getByLabel("Author", { exact: true }).fill(author);
    await page.getByRole("button", { name: "Add book" }).click();
    await book(page, title).waitFor();
  };
  const clients = async (page, connected, signedIn) => {
    const text = () => page.locator("#clients").innerText();
    await until(
      async () => (await text()).replace(/\s+/g, " ") === `${connected} connected · ${signedIn} signed in`,
      () => `${connected} connected and ${signedIn} signed in`,
    );
  };

  it("shows live data, and lets guests read only", async () => {
    const page = await tab();
    assert.match(await page.title(), /Sluice/);
    const prices = () => page.locator("td.price").allInnerTexts();
    const before = await prices();
    assert.ok(before.every((p) => /^\d+\.\d\d$/.test(p)), before.join());
    await until(async () => (await prices()).filter((p, i) => p !== before[i]).length >= 4, "the prices move");

    assert.equal((await titles(page)).length, 5);
    assert.equal(await page.locator("#book-count").innerText(), "5");
    assert.equal(await readOnly(page), true);
    // Not only the page thinks so.
    const codes = await page.evaluate(async () => {
      const { Client } = await import("/client.js");
      const client = new Client(location.href.replace("http", "ws"));
      client.connect();
      await client.subscribe("demo.books");
      const calls = [
        client.call("demo.books", "new", { title: "x", author: "y" }),
        client.call("demo.books", "remove", { id: 1 }),
        client.call("demo.book.1", "set", { title: "x" }),
      ];
      const codes = (await Promise.allSettled(calls)).map((c) => c.reason?.code);
      client.close();
      return codes;
    });
    assert.deepEqual(codes, Array(3).fill("system.accessDenied"));
  });

  it("has several tabs edit one list", async () => {
    const [ada, bea] = await Promise.all([tab(), tab()]);
    await signIn(ada, "Ada");
    assert.equal(await ada.evaluate(() => document.activeElement.id), "add-title", "the focus goes on");
    await clients(bea, 2, 1);
    assert.equal(await readOnly(bea), true, "a tab signs in for itself");

    await add(ada, "Dune", "Frank Herbert");
    await book(bea, "Dune").waitFor();
    assert.equal(await bea.locator("#activity").innerText(), "Ada added “Dune”");
    assert.equal(await ada.getByLabel("Title", { exact: true }).inputValue(), "");

    await book(ada, "Dune").fill("Dune Messiah");
    await ada.keyboard.press("Enter");
    await book(bea, "Dune Messiah").waitFor();
    await ada.getByLabel("Author of “Dune Messiah”").fill("F. Herbert");
    await ada.keyboard.press("Tab"); // leaving the field saves, too
    await until(async () => (await bea.getByLabel("Author of “Dune Messiah”").inputValue()) === "F. Herbert", "the author in the other tab");

    await row(ada, "Dune Messiah").getByRole("button", { name: "Remove “Dune Messiah”" }).click();
    await book(bea, "Dune Messiah").waitFor({ state: "detached" });
    await book(ada, "Dune Messiah").waitFor({ state: "detached" });
    assert.deepEqual(await titles(ada), await titles(bea));
    assert.equal(await ada.evaluate(() => document.activeElement.className), "title", "the focus stays in the list");
  });

  it("leaves alone what somebody is typing", async () => {
    const [ada, bea] = await Promise.all([tab(), tab()]);
    await Promise.all([signIn(ada, "Ada"), signIn(bea, "Bea")]);
    await clients(ada, 2, 2);
    await add(ada, "Emma", "Jane Austen");

    const author = bea.getByLabel("Author of “Emma”");
    await author.fill("Miss Au");
    await add(ada, "Persuasion", "J. Austen");
    await book(ada, "Emma").fill("Emma (1815)");
    await ada.keyboard.press("Enter");
    await book(bea, "Emma (1815)").waitFor();
    const typing = bea.getByLabel("Author of “Emma (1815)”");
    assert.equal(await typing.evaluate((el) => el === document.activeElement), true, "the focus stays");
    await bea.keyboard.type("sten");
    assert.equal(await typing.inputValue(), "Miss Austen");
    await bea.keyboard.press("Enter");
    await until(async () => (await ada.getByLabel("Author of “Emma (1815)”").inputValue()) === "Miss Austen", "what Bea typed");

    // Both in one field: the user who is still typing sees a notice, and chooses.
    await book(bea, "Persuasion").fill("Persuasions");
    await book(ada, "Persuasion").fill("Persuasion (1817)");
    await ada.keyboard.press("Enter");
    const note = row(bea, "Persuasion (1817)").locator(".note");
    await note.getByText("Now “Persuasion (1817)” for everybody").waitFor();
    assert.equal(await book(bea, "Persuasion (1817)").inputValue(), "Persuasions");
    await bea.keyboard.press("Escape");
    assert.equal(await book(bea, "Persuasion (1817)").inputValue(), "Persuasion (1817)");
    assert.equal(await note.innerText(), "");

    for (const title of ["Emma (1815)", "Persuasion (1817)"]) {
      await row(bea, title).getByRole("button").click();
      await book(ada, title).waitFor({ state: "detached" });
    }
  });

  it("shows text as text, and names errors", async () => {
    const page = await tab();
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByText("Please enter a name").waitFor();
    await signIn(page, "Eve <b>");
    const nasty = `<img src=x onerror="document.title='had'">`;
    await add(page, nasty, "</li><script>alert(1)</script>");
    assert.equal(await page.locator("#activity").innerText(), `Eve <b> added “${nasty}”`);
    assert.match(await page.title(), /Sluice/);
    assert.equal(await page.locator("main img, main script").count(), 0);

    await book(page, nasty).fill("  ");
    await page.keyboard.press("Enter");
    await page.locator(".book .error").getByText("title must not be empty").waitFor();
    assert.equal(await book(page, nasty).getAttribute("aria-invalid"), "true");
    await page.keyboard.press("Escape");
    assert.equal(await book(page, nasty).inputValue(), nasty);
    await page.getByRole("button", { name: "Add book" }).click();
    await page.getByText("Please enter a title").waitFor();
    await page.locator(".book").last().getByRole("button").click();
    await book(page, nasty).waitFor({ state: "detached" });
  });

  it("remembers who one is over a reload, and forgets at sign-out", async () => {
    const page = await tab();
    await signIn(page, "Ada");
    await page.reload();
    await live(page);
    await page.getByText("Signed in as Ada").waitFor();
    await page.locator("#add-fields:enabled").waitFor();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByLabel("Your name").waitFor();
    assert.equal(await readOnly(page), true);
    await page.reload();
    await live(page);
    await clients(page, 1, 0);
  });

  it("counts the clients, also those that leave without a word", async () => {
    const page = await tab();
    await clients(page, 1, 0);
    const more = [await tab(), await tab()];
    await clients(page, 3, 0);
    await signIn(more[0], "Cy");
    await clients(page, 3, 1);
    await more[0].close();
    await more[1].goto("about:blank");
    await clients(page, 1, 0);
  });

  it("shows that the connection is lost, and comes back with what is true then", async () => {
    const page = await tab();
    await signIn(page, "Ada");
    await add(page, "Gone with the Restart", "Nobody");
    await demo.stop("SIGKILL");
    await page.locator("#connection[data-state=offline]").waitFor();
    await page.getByText("next try in").waitFor();
    assert.equal(await readOnly(page), true);
    await demo.run();
    await live(page);
    await page.getByText("Signed in as Ada").waitFor();
    await page.locator("#add-fields:enabled").waitFor();
    // The demo keeps its books in memory only: what was added is gone with it.
    await book(page, "Gone with the Restart").waitFor({ state: "detached" });
    assert.equal((await titles(page)).length, 5);
    await add(page, "After All", "Ada");
    await row(page, "After All").getByRole("button").click();
    await book(page, "After All").waitFor({ state: "detached" });
    complaints = complaints.filter((text) => !/WebSocket connection to .* failed/.test(text)); // logged by Chromium
  });

  for (const colorScheme of ["light", "dark"]) {
    it(`is readable by all, in ${colorScheme} colours`, async () => {
      const media = { colorScheme };
      const wide = await tab({ media });
      assert.deepEqual(await wide.evaluate(nameless), []);
      assert.deepEqual(await wide.evaluate(poorContrast), []);
      await screenshot(wide, `guest-${colorScheme}`);
      await signIn(wide, "Ada");
      await wide.getByText("On the wire").click();
      await wide.locator("#wire-list li").first().waitFor();
      assert.deepEqual(await wide.evaluate(nameless), []);
      assert.deepEqual(await wide.evaluate(poorContrast), []);
      await screenshot(wide, `editor-${colorScheme}`, { fullPage: true });

      const phone = await tab({ media, size: { width: 360, height: 780 } });
      const tooWide = await phone.evaluate(() => {
        const inside = (el) => el.clientWidth - parseFloat(getComputedStyle(el).paddingRight);
        return [document.documentElement, ...document.querySelectorAll(".card")].filter(
          (el) => el.scrollWidth > el.clientWidth || [...el.querySelectorAll(":scope > table")].some((t) => t.offsetLeft - el.offsetLeft + t.offsetWidth > inside(el) + 1),
        ).length;
      });
      assert.equal(tooWide, 0, "nothing sticks out on a phone");
      await screenshot(phone, `phone-${colorScheme}`, { fullPage: true });
    });
  }
});
