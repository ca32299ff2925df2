// The demo page's client module, in Node: internal/demo/web/res.js as it is, with a WebSocket for it.

import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import WebSocket from "ws";

// In a browser each message is a task of its own: what a promise has to do after one is done before the next.
globalThis.WebSocket ??= class extends WebSocket {
  constructor(url) {
    super(url, { allowSynchronousEvents: false });
    this.on("error", () => {}); // "close" follows, and is what the module goes by
  }
};

// Browsers take the file for a module because the page says so; Node wants it in the name.
const folder = mkdtempSync(join(tmpdir(), "sluice-e2e-"));
process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
const copy = join(folder, "res.mjs");
copyFileSync(fileURLToPath(new URL("../../demo/web/res.js", import.meta.url)), copy);

export const { Client, Collection, Failed, Model, ResError, SoftRef } = await import(pathToFileURL(copy).href);
