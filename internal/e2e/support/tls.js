// Certificates for the gateways under test, and WebSockets over TLS that record what is on the wire.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import WebSocket from "ws";

import { serviceBinary } from "./process.js";

let folder = "";
let made = 0;

/** Makes a certificate for loopback: its files, and its text, for clients to trust. */
export function certificate() {
  if (!folder) {
    folder = mkdtempSync(join(tmpdir(), "sluice-e2e-"));
    process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  }
  const cert = join(folder, `cert${++made}.pem`);
  const key = join(folder, `key${made}.pem`);
  execFileSync(serviceBinary(), ["certificate", cert, key], { stdio: ["ignore", "inherit", "inherit"] });
  return { cert, key, pem: readFileSync(cert, "utf8") };
}

/** Replaces a file atomically, as a program that renews certificates should. */
export const replace = renameSync;

/**
 * The frames in a stream of bytes: a function that takes the next bytes, and calls back for each whole frame with its
 * opcode, whether it is compressed, and its size on the wire.
 */
export function frames(each) {
  let rest = Buffer.alloc(0);
  return (chunk) => {
    rest = Buffer.concat([rest, chunk]);
    for (;;) {
      if (rest.length < 2) return;
      let length = rest[1] & 0x7f;
      let at = 2;
      if (length === 126) at = 4;
      if (length === 127) at = 10;
      const mask = rest[1] & 0x80 ? 4 : 0;
      if (rest.length < at + mask) return;
      if (at === 4) length = rest.readUInt16BE(2);
      if (at === 10) length = Number(rest.readBigUInt64BE(2));
      if (rest.length < at + mask + length) return;
      each({ opcode: rest[0] & 0x0f, compressed: (rest[0] & 0x40) !== 0, wire: at + mask + length });
      rest = rest.subarray(at + mask + length);
    }
  };
}

/**
 * A maker of WebSockets for connect: each with the given options, to be trusted by the given certificates. What the last
 * one receives is recorded: the sizes of its messages, and their frames. So is what it sends.
 */
export function wire(url, ca, options = {}) {
  const maker = () => {
    const socket = new WebSocket(url, { ca, allowSynchronousEvents: false, ...options });
    Object.assign(maker, { socket, answer: "", received: [], messages: [], sent: [] });
    const { received, messages, sent } = maker;
    socket.on("upgrade", (response) => {
      maker.answer = response.headers["sec-websocket-extensions"] ?? "";
      maker.protocol = response.socket.getProtocol();
      const incoming = frames((frame) => frame.opcode < 8 && received.push(frame));
      response.socket.on("data", incoming);
      const outgoing = frames((frame) => frame.opcode < 8 && sent.push(frame));
      const write = response.socket.write;
      response.socket.write = function (chunk, ...more) {
        outgoing(Buffer.from(chunk));
        return write.call(this, chunk, ...more);
      };
    });
    socket.on("message", (data) => messages.push(data.length));
    return socket;
  };
  return maker;
}
