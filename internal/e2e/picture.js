// Makes the moving picture of the demo at the top of the README: "make picture" runs it. Two people in windows side by
// side edit one list.

import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { Animation, decode } from "./support/apng.js";
import { launch } from "./support/browser.js";
import { Gateway } from "./support/process.js";

const file = join(import.meta.dirname, "../../docs/images/demo.png");
const most = 1_000_000; // bytes

const window = { width: 600, height: 890 };
const gap = 16; // between the windows, and around them
const width = 2 * window.width + 3 * gap;
const height = window.height + 2 * gap;
const ground = [0xc3, 0xcf, 0xd4];

// What the picture has no room for.
const less = "#tickers tr:nth-child(n + 3), .wire, footer { display: none !important; }";

const demo = await new Gateway(["--embedded-nats-listen", "127.0.0.1:0"], { command: ["demo"] }).run();
const browser = await launch();
try {
  const open = async (name) => {
    const page = await browser.newPage({ viewport: window, colorScheme: "light", bypassCSP: true, reducedMotion: "reduce" });
    await page.goto(demo.origin);
    await page.addStyleTag({ content: less });
    await page.getByLabel("Your name").fill(name);
    await page.keyboard.press("Enter");
    await page.getByText(`Signed in as ${name}`).waitFor();
    await page.locator(".book").first().waitFor();
    await page.waitForFunction(() => document.querySelectorAll("#tickers tr").length > 7);
    return page;
  };
  const [ada, bob] = [await open("Ada"), await open("Bob")];
  const titles = (page) => page.locator(".book .title").evaluateAll((all) => all.map((input) => input.value));
  const both = async (want) => {
    for (const page of [ada, bob]) await page.waitForFunction((w) => [...document.querySelectorAll(".book .title")].map((i) => i.value).join() === w, want.join());
  };

  const animation = new Animation(width, height);
  /** Adds what both windows show now. */
  const frame = async (ms) => {
    const canvas = Buffer.alloc(3 * width * height, Buffer.from(ground));
    const pictures = await Promise.all([ada, bob].map((page) => page.screenshot({ caret: "initial" })));
    pictures.map(decode).forEach(({ rgb }, i) => {
      for (let y = 0; y < window.height; y++) {
        rgb.copy(canvas, 3 * ((gap + y) * width + gap + i * (window.width + gap)), 3 * y * window.width, 3 * (y + 1) * window.width);
      }
    });
    animation.add(canvas, ms);
  };
  /** Types a text, some letters a frame. */
  const type = async (page, text) => {
    for (let i = 0; i < text.length; i += 3) {
      await page.keyboard.type(text.slice(i, i + 3));
      await frame(160);
    }
  };
  const rest = async (frames) => {
    for (let i = 0; i < frames; i++) await frame(400);
  };

  const list = await titles(ada);
  await rest(2);

  const title = ada.locator(".book .title").nth(1);
  await title.click();
  await title.selectText();
  await frame(400);
  await type(ada, "Roughing It");
  await ada.keyboard.press("Enter");
  list[1] = "Roughing It";
  await both(list);
  await rest(3);

  await bob.getByLabel("Title").last().click();
  await type(bob, "Walden");
  await bob.getByLabel("Author").last().click();
  await type(bob, "Henry D. Thoreau");
  await bob.keyboard.press("Enter");
  await both([...list, "Walden"]);
  await rest(3);

  await ada.locator(".book button").last().click();
  await both(list);
  await rest(3);

  const picture = animation.encode();
  // The browser finds as many frames as were made.
  const frames = await ada.evaluate(async (data) => {
    const decoder = new ImageDecoder({ data: Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), type: "image/png" });
    await decoder.tracks.ready;
    for (let i = 0; i < decoder.tracks.selectedTrack.frameCount; i++) await decoder.decode({ frameIndex: i });
    return decoder.tracks.selectedTrack.frameCount;
  }, picture.toString("base64"));
  if (frames !== animation.length) throw new Error(`${animation.length} frames were made, and the browser shows ${frames}`);
  if (picture.length > most) throw new Error(`the picture has ${picture.length} bytes, which is more than ${most}`);
  writeFileSync(file, picture);
  console.log(`${frames} frames, ${picture.length} bytes`);
} finally {
  await browser.close();
  await demo.stop();
}
