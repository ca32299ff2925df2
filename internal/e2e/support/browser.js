// A browser for the tests: Debian's Chromium, or the one that $CHROMIUM names.

import { accessSync, constants } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { chromium } from "playwright-core";

const candidates = process.env.CHROMIUM
  ? [process.env.CHROMIUM]
  : ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome-stable", "/usr/bin/google-chrome"];

const usable = (path) => {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
};

/** The browser's path; undefined if there is none. One that $CHROMIUM names must be there. */
export const browserPath = candidates.find(usable);
if (process.env.CHROMIUM && !browserPath) throw new Error(`CHROMIUM is ${process.env.CHROMIUM}, which is no program`);

/** Why the browser tests are skipped, or false. */
export const noBrowser = !browserPath && `no browser: install Debian's "chromium", or name one by CHROMIUM (looked for ${candidates.join(", ")})`;

export function launch() {
  return chromium.launch({
    executablePath: browserPath,
    args: [
      ...(process.getuid() === 0 ? ["--no-sandbox"] : []), // root has no other choice
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/** Where screenshots go: the folder E2E_SCREENSHOTS, else that for temporary files. */
export const screenshot = (page, name, options = {}) =>
  page.screenshot({ path: join(process.env.E2E_SCREENSHOTS || tmpdir(), `sluice-demo-${name}.png`), ...options });

/** Lists texts whose contrast with what is behind them is below WCAG's AA. Runs in the page. */
export function poorContrast() {
  const channel = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const parse = (color) => {
    const [r, g, b, a = 1] = color.match(/[\d.]+/g).map(Number);
    return { rgb: [r, g, b], a };
  };
  const over = (top, a, under) => top.map((c, i) => c * a + under[i] * (1 - a));
  const luminance = (rgb) => rgb.reduce((sum, c, i) => sum + [0.2126, 0.7152, 0.0722][i] * channel(c / 255), 0);
  const ground = (el) => {
    const layers = [];
    for (let e = el; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
    return layers.reduceRight((under, { rgb, a }) => over(rgb, a, under), [255, 255, 255]);
  };
  const found = [];
  for (const el of document.querySelectorAll("body *")) {
    const text = el.matches("input") ? el.value || el.placeholder : [...el.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data).join("").trim();
    if (!text || el.closest(".hidden, template, noscript, :disabled") || !el.checkVisibility()) continue;
    const style = getComputedStyle(el);
    const behind = ground(el);
    const { rgb, a } = parse(style.color);
    const [light, dark] = [luminance(over(rgb, a, behind)), luminance(behind)].sort((x, y) => y - x);
    const ratio = (light + 0.05) / (dark + 0.05);
    const size = parseFloat(style.fontSize);
    if (ratio < (size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5)) found.push(`${text.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return found;
}

/** Lists fields and buttons that a screen reader could not name. Runs in the page. */
export function nameless() {
  return [...document.querySelectorAll("input, button")]
    .filter((el) => !(el.ariaLabel || el.labels?.[0]?.textContent.trim() || el.textContent.trim()))
    .map((el) => el.outerHTML.slice(0, 100));
}
