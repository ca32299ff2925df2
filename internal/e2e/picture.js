// Makes the picture of the demo at the top of the README: "make picture" runs it. Two windows, in which somebody has
// signed in and changed a book.

import { join } from "node:path";

import { launch } from "./support/browser.js";
import { Gateway } from "./support/process.js";

const file = join(import.meta.dirname, "../../docs/images/demo.png");
const demo = await new Gateway(["--embedded-nats-listen", "127.0.0.1:0"], { command: ["demo"] }).run();
const browser = await launch();
try {
  const open = async () => {
    const page = await browser.newPage({ viewport: { width: 1280, height: 720 }, colorScheme: "light" });
    await page.goto(demo.origin);
    await page.locator("#connection[data-state=online]").waitFor();
    await page.locator(".book").first().waitFor();
    return page;
  };
  const [ada, other] = [await open(), await open()];
  for (const [page, name] of [[ada, "Ada"], [other, "Bob"]]) {
    await page.getByLabel("Your name").fill(name);
    await page.keyboard.press("Enter");
    await page.getByText(`Signed in as ${name}`).waitFor();
  }
  await other.locator(".book .title").nth(1).fill("Roughing It");
  await other.keyboard.press("Enter");
  await ada.waitForFunction(() => document.querySelectorAll(".book .title")[1].value === "Roughing It");
  await ada.waitForFunction(() => document.querySelectorAll("#tickers tr").length > 7);
  await ada.screenshot({ path: file });
} finally {
  await browser.close();
  await demo.stop();
}
