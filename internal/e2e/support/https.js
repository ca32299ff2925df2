// HTTPS clients over HTTP/1.1 and HTTP/2, all used in the same way: curl, and what Node has.

import { execFile, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { connect as session } from "node:http2";
import { Agent, request as https } from "node:https";

import { until } from "./wait.js";

const { error, stdout } = spawnSync("curl", ["--version"], { encoding: "utf8" });

/** Why the tests with curl are skipped, or false. */
export const noCurl = error ? "no curl: install it" : !/^Features:.* HTTP2/m.test(stdout) && "this curl knows no HTTP/2";

/** Server-sent events from a stream of text: data holds those so far, in which comments do not count. */
class Events {
  data = [];
  ended = false;
  #text = "";

  constructor(readable, close) {
    this.close = close;
    readable.setEncoding("utf8").on("data", (text) => {
      const parts = (this.#text + text).split("\n\n");
      this.#text = parts.pop();
      for (const part of parts) {
        const lines = part.split("\n").filter((line) => line.startsWith("data: "));
        if (lines.length) this.data.push(JSON.parse(lines.map((line) => line.slice(6)).join("\n")));
      }
    });
    readable.once("close", () => (this.ended = true));
  }

  /** Resolves with the next event. */
  next() {
    return until(() => this.data.shift(), "an event on the stream");
  }
}

/**
 * Each has get, which resolves with { version, status, headers, body } of any request, and stream, which resolves with
 * { version, status, headers, events }. The names of headers are in lower case. close ends what it holds open.
 */
class Curl {
  constructor(origin, cert, version) {
    this.origin = origin;
    this.common = ["-sS", "-i", "--noproxy", "*", "--max-time", "20", "--cacert", cert, `--http${version}`];
  }

  #args(path, { method, headers = {}, body }) {
    const args = [...this.common];
    if (method === "HEAD") args.push("--head");
    else if (method) args.push("-X", method);
    for (const [name, value] of Object.entries(headers)) args.push("-H", `${name}: ${value}`);
    if (body !== undefined) args.push("--data-binary", "@-");
    return [...args, this.origin + path];
  }

  static head(text) {
    const [first, ...fields] = text.split("\r\n");
    const [, version, status] = /^HTTP\/(\S+) (\d+)/.exec(first);
    return {
      version,
      status: Number(status),
      headers: Object.fromEntries(fields.map((f) => [f.slice(0, f.indexOf(":")).toLowerCase(), f.slice(f.indexOf(":") + 1).trim()])),
    };
  }

  get(path, options = {}) {
    return new Promise((resolve, reject) => {
      const child = execFile("curl", this.#args(path, options), { encoding: "buffer", maxBuffer: 1 << 24 }, (error, output) => {
        if (error) return reject(error);
        const end = output.indexOf("\r\n\r\n");
        resolve({ ...Curl.head(output.toString("latin1", 0, end)), body: output.subarray(end + 4) });
      });
      child.stdin.on("error", () => {}); // it may have had enough
      child.stdin.end(options.body ?? "");
    });
  }

  async stream(path) {
    const child = spawn("curl", ["-N", ...this.#args(path, { headers: { Accept: "text/event-stream" } })], { stdio: ["ignore", "pipe", "inherit"] });
    let output = "";
    const head = await new Promise((resolve, reject) => {
      const read = () => {
        for (let chunk; (chunk = child.stdout.read()) !== null; ) {
          output += chunk.toString("latin1"); // of the head, and of the input after it
          const end = output.indexOf("\r\n\r\n");
          if (end < 0) continue;
          child.stdout.off("readable", read);
          child.stdout.unshift(Buffer.from(output.slice(end + 4), "latin1"));
          return resolve(Curl.head(output.slice(0, end)));
        }
      };
      child.stdout.on("readable", read);
      child.once("close", () => reject(new Error(`curl ended: ${output}`)));
    });
    return { ...head, events: new Events(child.stdout, () => child.kill()) };
  }

  close() {}
}

class Http1 {
  constructor(origin, ca) {
    this.origin = origin;
    this.agent = new Agent({ ca, keepAlive: true, maxSockets: 4 });
  }

  async #ask(path, { method = "GET", headers = {}, body }) {
    const request = https(this.origin + path, { agent: this.agent, method, headers });
    request.end(body);
    const [response] = await once(request, "response");
    return [request, response, { version: response.httpVersion, status: response.statusCode, headers: response.headers }];
  }

  async get(path, options = {}) {
    const [, response, head] = await this.#ask(path, options);
    return { ...head, body: Buffer.concat(await response.toArray()) };
  }

  async stream(path) {
    const [request, response, head] = await this.#ask(path, { headers: { Accept: "text/event-stream" } });
    response.on("error", () => {}); // closing it is an error
    return { ...head, events: new Events(response, () => request.destroy()) };
  }

  close() {
    this.agent.destroy();
  }
}

class Http2 {
  constructor(origin, ca) {
    this.session = session(origin, { ca });
    this.session.on("error", () => {}); // the requests fail with it
  }

  async #ask(path, { method = "GET", headers = {}, body }) {
    const lower = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
    const request = this.session.request({ ":path": path, ":method": method, ...lower }, { endStream: body === undefined });
    if (body !== undefined) request.end(body);
    const [{ ":status": status, ...fields }] = await once(request, "response");
    return [request, { version: this.session.alpnProtocol === "h2" ? "2" : this.session.alpnProtocol, status, headers: fields }];
  }

  async get(path, options = {}) {
    const [request, head] = await this.#ask(path, options);
    return { ...head, body: Buffer.concat(await request.toArray()) };
  }

  async stream(path) {
    const [request, head] = await this.#ask(path, { headers: { Accept: "text/event-stream" } });
    return { ...head, events: new Events(request, () => request.close()) };
  }

  close() {
    this.session.destroy();
  }
}

/** The HTTP clients of the tests: name, version of HTTP, why it is skipped if it is, and how to make one for a gateway. */
export const clients = [
  { name: "curl over HTTP/1.1", version: "1.1", skip: noCurl, make: (gateway, tls) => new Curl(gateway.origin, tls.cert, "1.1") },
  { name: "curl over HTTP/2", version: "2", skip: noCurl, make: (gateway, tls) => new Curl(gateway.origin, tls.cert, "2") },
  { name: "Node over HTTP/1.1", version: "1.1", skip: false, make: (gateway, tls) => new Http1(gateway.origin, tls.pem) },
  { name: "Node over HTTP/2", version: "2", skip: false, make: (gateway, tls) => new Http2(gateway.origin, tls.pem) },
];
