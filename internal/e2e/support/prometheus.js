// Debian's Prometheus with promtool, and the files in deploy/ that are for it and for Grafana.

import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { freePort, Process } from "./process.js";

const deploy = join(dirname(fileURLToPath(import.meta.url)), "../../../deploy");

export const rules = join(deploy, "prometheus/sluice.rules.yml");
export const rulesTest = join(deploy, "prometheus/sluice.rules.test.yml");
export const dashboard = () => JSON.parse(readFileSync(join(deploy, "grafana/sluice.json"), "utf8"));

/** Why there can be no test with Prometheus; empty if there can. */
export const missing = ["prometheus", "promtool"].every((name) => spawnSync(name, ["--version"]).status === 0)
  ? ""
  : "there is no prometheus with promtool: make deps installs them";

/** Runs promtool, and returns what it says. Its exit code must be 0. */
export function promtool(args, { input = "", cwd = deploy } = {}) {
  const { status, stdout, stderr, error } = spawnSync("promtool", args, { input, cwd, encoding: "utf8" });
  if (error || status !== 0) throw new Error(`promtool ${args.join(" ")}: ${error ?? status}\n${stdout}${stderr}`);
  return stdout + stderr;
}

/** A Prometheus that scrapes one port of loopback every half second. */
export class Prometheus extends Process {
  constructor(target, args = []) {
    super();
    this.target = target;
    this.args = args;
  }

  async run() {
    this.port = await freePort();
    this.folder = mkdtempSync(join(tmpdir(), "sluice-e2e-"));
    const config = join(this.folder, "prometheus.yml");
    writeFileSync(
      config,
      `global: {scrape_interval: 500ms, evaluation_interval: 500ms}
rule_files: [${JSON.stringify(rules)}]
scrape_configs: [{job_name: sluice, static_configs: [{targets: ["127.0.0.1:${this.target}"]}]}]
`,
    );
    execFileSync("promtool", ["check", "config", config], { stdio: ["ignore", "ignore", "inherit"] });
    this.start("prometheus", [
      `--config.file=${config}`,
      `--storage.tsdb.path=${join(this.folder, "data")}`,
      `--web.listen-address=127.0.0.1:${this.port}`,
      ...this.args,
    ]);
    await this.ready(async () => {
      try {
        return (await fetch(`http://127.0.0.1:${this.port}/-/ready`)).ok;
      } catch {
        return false; // it does not listen yet
      }
    }, "Prometheus is not ready");
    return this;
  }

  async get(path, query = {}) {
    const response = await fetch(`http://127.0.0.1:${this.port}/api/v1/${path}?${new URLSearchParams(query)}`);
    const body = await response.json();
    if (body.status !== "success") throw new Error(`${JSON.stringify(query)}: ${body.error}`);
    return body.data;
  }

  /** The series that an expression has now. */
  async query(expression) {
    return (await this.get("query", { query: expression })).result;
  }

  async stop() {
    const code = await super.stop();
    rmSync(this.folder, { recursive: true, force: true });
    return code;
  }
}
