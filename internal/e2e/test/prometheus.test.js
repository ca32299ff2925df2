// A real Prometheus scrapes a gateway under a little load: every query of the dashboard returns data, every alert can be
// evaluated, and promtool has nothing to say about the metrics.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { connect, keep } from "../support/client.js";
import { freePort, Gateway, Service } from "../support/process.js";
import { dashboard, missing, Prometheus, promtool, rules, rulesTest } from "../support/prometheus.js";
import { certificate, wire } from "../support/tls.js";
import { failure, until } from "../support/wait.js";

describe("Prometheus", { skip: missing || false }, () => {
  let service, gateway, client, prometheus, metrics, loading, ended;

  before(async () => {
    const tls = certificate();
    metrics = await freePort();
    service = await new Service().run();
    gateway = await new Gateway(["--nats", service.nats, "--metricsport", `${metrics}`], { tls }).run();
    client = await connect(wire(gateway.url, tls.pem));
    prometheus = await new Prometheus(metrics).run();

    // Requests of every kind, of which some fail, and events, until the end of the tests.
    const [info, page] = await Promise.all([keep(client, "lib.info"), keep(client, "lib.search?q=load&from=0&limit=3")]);
    assert.equal(page.length, 0);
    loading = (async () => {
      for (let n = 0; !ended; n++) {
        await client.call("lib.info", "set", { title: `Title ${n}` });
        assert.equal(info.title, `Title ${n}`);
        const item = await client.call("lib.items", "new", { name: `Load ${n}` });
        await client.call("lib.items", "remove", { id: item.id });
        await failure(client.call("lib.info", "unknown", {}));
        await failure(client.get("lib.unknown"));
        await new Promise((next) => setTimeout(next, 20));
      }
    })();
  });
  after(async () => {
    ended = true;
    await loading;
    client?.disconnect();
    await prometheus?.stop();
    await gateway?.stop();
    await service?.stop();
  });

  it("accepts the metrics and the rules", async () => {
    const text = await (await fetch(`http://127.0.0.1:${metrics}/metrics`)).text();
    assert.equal(promtool(["check", "metrics"], { input: text }), "");
    promtool(["check", "rules", rules]);
    promtool(["test", "rules", rulesTest]);
  });

  it("has data for every query of the dashboard", async () => {
    await until(
      async () => (await prometheus.query('min_over_time(up{job="sluice"}[10s]) == 1 and count_over_time(up[10s]) > 4')).length === 1,
      () => `five scrapes that succeed\n${prometheus.output}`,
    );
    const targets = dashboard().panels.flatMap((panel) => (panel.targets ?? []).map((target) => ({ title: panel.title, ...target })));
    assert.ok(targets.length > 50, "the dashboard has its queries");
    for (const { title, expr, legendFormat } of targets) {
      const query = expr.replaceAll("$job", "sluice").replaceAll("$instance", "127.*").replaceAll("$__rate_interval", "5s");
      assert.doesNotMatch(query, /\$/, `${title}: a variable that is not replaced`);
      const series = await until(
        async () => {
          const found = await prometheus.query(query);
          return found.length > 0 && found;
        },
        `${title}: ${query} has no data`,
      );
      for (const [, label] of legendFormat.matchAll(/{{(\w+)}}/g)) assert.ok(series[0].metric[label], `${title}: no label ${label}`);
    }
  });

  it("evaluates every alert, of which only the one for a certificate of a day fires", async () => {
    const expected = "SluiceCertificateExpires";
    const all = await until(async () => {
      const { groups } = await prometheus.get("rules");
      return groups.length > 0 && groups[0].rules.some((rule) => rule.name === expected && rule.state === "firing") && groups[0].rules;
    }, "the alert fires");
    assert.ok(all.length > 15);
    for (const rule of all) {
      assert.equal(rule.health, "ok", `${rule.name}: ${rule.lastError}`);
      if (rule.name !== expected) assert.notEqual(rule.state, "firing", `${rule.name} fires`);
      // Without its comparison, the expression has data.
      const measured = rule.query.replace(/ and on \(.*$/, "").replace(/ (==|>|<) [0-9.e* +]+$/, "");
      assert.notEqual(measured, rule.query, `${rule.name} compares`);
      if (/sluice_service_queue|sluice_service_timeouts/.test(measured)) continue; // a service that never waited has none
      assert.ok((await prometheus.query(measured)).length > 0, `${rule.name}: ${measured} has no data`);
    }
  });

  it("gets native histograms, if it asks for them", async () => {
    const other = await new Prometheus(metrics, ["--enable-feature=native-histograms"]).run();
    try {
      for (const name of ["sluice_event_latency_seconds", 'sluice_service_request_duration_seconds{kind="call"}', "sluice_flush_connections"]) {
        const query = `histogram_quantile(0.5, sum(rate(${name}[5s])))`;
        await until(
          async () => (await other.query(query)).some(({ value }) => Number(value[1]) > 0),
          () => `${query} has no data\n${other.output}`,
        );
      }
    } finally {
      await other.stop();
    }
  });
});
