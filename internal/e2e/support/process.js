// The processes under test: the gateway's binary and the test service. Each runs on loopback ports that were free, and
// ends with the test.

import { spawn, execFileSync } from "node:child_process";
import { createServer, connect as dial } from "node:net";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { until, patience } from "./wait.js";

const here = dirname(dirname(fileURLToPath(import.meta.url)));

/** The gateway's binary: $SLUICE_BIN, relative to the current folder, or what "make build" makes. */
export function gatewayBinary() {
  const path = process.env.SLUICE_BIN ? resolve(process.env.SLUICE_BIN) : join(here, "../../bin/sluice");
  if (!existsSync(path)) throw new Error(`no gateway at ${path}: build it first, or say by SLUICE_BIN where it is`);
  return path;
}

/** A port that no process listens on now. */
export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** The environment without what would be settings of the gateway, SLUICE_BIN among them. */
const environment = () => Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("SLUICE_")));

/** A process whose output is kept, to be shown when something fails. */
export class Process {
  #child = null;
  #exited = null;
  output = "";

  start(path, args) {
    this.output = "";
    this.#child = spawn(path, args, { stdio: ["pipe", "pipe", "pipe"], env: environment() });
    this.#child.stdin.on("error", () => {}); // it may have ended before us
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => (this.output = (this.output + text).slice(-100_000)));
    }
    this.#exited = new Promise((done) => {
      this.#child.once("error", (error) => {
        this.output += error.message;
        done(error.message);
      });
      this.#child.once("close", (code, signal) => done(code ?? signal));
    });
    this.running = true;
    this.#exited.then(() => (this.running = false));
  }

  get pid() {
    return this.#child.pid;
  }

  /** Waits for a condition, and fails immediately if the process ends before. */
  async ready(condition, what) {
    await until(async () => {
      if (!this.running) throw new Error(`${what}: the process ended\n${this.output}`);
      return condition();
    }, () => `${what}\n${this.output}`);
  }

  /** Ends the process and resolves with its exit code, or the signal that ended it. */
  async stop(signal = "SIGTERM") {
    if (!this.running) return this.#exited;
    this.#child.kill(signal);
    const late = setTimeout(() => this.#child.kill("SIGKILL"), patience);
    const code = await this.#exited;
    clearTimeout(late);
    return code;
  }
}

const answers = (port) =>
  new Promise((done) => {
    const socket = dial(port, "127.0.0.1");
    socket.once("connect", () => socket.destroy() && done(true));
    socket.once("error", () => done(false));
  });

/** A gateway, over TLS if it is given files with certificate and key. It keeps its port over restarts. */
export class Gateway extends Process {
  port = 0;

  constructor(args, { command = [], tls = null } = {}) {
    super();
    this.args = tls ? [...args, "--tls", "--tlscert", tls.cert, "--tlskey", tls.key] : args;
    this.secure = tls ? "s" : "";
    this.command = command;
  }

  get url() {
    return `ws${this.secure}://127.0.0.1:${this.port}/`;
  }

  /** The origin of its pages. */
  get origin() {
    return `http${this.secure}://127.0.0.1:${this.port}`;
  }

  async run() {
    this.port ||= await freePort();
    this.start(gatewayBinary(), [...this.command, "--addr", "127.0.0.1", "--port", `${this.port}`, ...this.args]);
    await this.ready(() => answers(this.port), "the gateway does not listen");
    return this;
  }
}

let built = "";

/** Builds the test service once for each test file. */
export function serviceBinary() {
  if (built) return built;
  const folder = mkdtempSync(join(tmpdir(), "sluice-e2e-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  built = join(folder, "testservice");
  execFileSync("go", ["build", "-o", built, "./testservice"], { cwd: here, stdio: ["ignore", "inherit", "inherit"] });
  return built;
}

/** The test service; with a NATS server of its own unless it gets the URL of one. */
export class Service extends Process {
  async run(nats = "") {
    this.start(serviceBinary(), nats ? ["--nats", nats] : []);
    const ready = /^ready (\S+)$/m;
    await this.ready(() => ready.test(this.output), "the test service is not ready");
    this.nats = ready.exec(this.output)[1];
    return this;
  }
}
