// Query resources: pages that follow what they show, by query events.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { connect, keep } from "../support/client.js";
import { Gateway, Service } from "../support/process.js";
import { until } from "../support/wait.js";

const names = (page) => page.toArray().map((item) => item.name);

describe("query resources", () => {
  let service, gateway, client, other;

  before(async () => {
    service = await new Service().run();
    gateway = await new Gateway(["--nats", service.nats]).run();
    [client, other] = await Promise.all([connect(gateway.url), connect(gateway.url)]);
  });
  after(async () => {
    client.disconnect();
    other.disconnect();
    await gateway.stop();
    await service.stop();
  });

  it("keeps every page right while the list changes", async () => {
    const add = (name) => other.call("lib.items", "new", { name });
    for (const name of ["Book A", "Book C", "Book E", "Book G", "Book I"]) await add(name);
    const pages = await Promise.all([
      keep(client, "lib.search?q=book&from=0&limit=3"),
      keep(client, "lib.search?q=book&from=3&limit=3"),
      // Other ways to write the first page: the gateway shares one cache entry, and events are sent under each name.
      keep(client, "lib.search?limit=3&q=BOOK"),
      keep(other, "lib.search?q=Book&from=0&limit=3"),
    ]);
    const total = await keep(client, "lib.total?q=Book");
    const expect = (first, second, count) =>
      until(
        () => JSON.stringify(pages.map(names)) === JSON.stringify([first, second, first, first]) && total.total === count,
        () => `pages ${JSON.stringify(pages.map(names))}, total ${total.total}; wanted ${first}, ${second}, ${count}`,
      );
    await expect(["Book A", "Book C", "Book E"], ["Book G", "Book I"], 5);

    const kept = pages[0].atIndex(1);
    const b = await add("Book B");
    await expect(["Book A", "Book B", "Book C"], ["Book E", "Book G", "Book I"], 6);
    assert.equal(pages[0].atIndex(2), kept, "what stays on a page is the same object");

    await other.call(`lib.item.${b.id}`, "set", { name: "Book H" });
    await expect(["Book A", "Book C", "Book E"], ["Book G", "Book H", "Book I"], 6);

    await other.call("lib.items", "remove", { id: pages[0].atIndex(0).id });
    await expect(["Book C", "Book E", "Book G"], ["Book H", "Book I"], 5);

    await other.call(`lib.item.${b.id}`, "set", { name: "Leaflet" });
    await expect(["Book C", "Book E", "Book G"], ["Book I"], 4);
  });

  it("ends with the same state after many changes together as after each alone", async () => {
    const pages = await Promise.all(
      [0, 4, 8, 12].map((from) => keep(client, `lib.search?q=many&from=${from}&limit=4`)),
    );
    const total = await keep(other, "lib.total?q=many");
    const made = await Promise.all(
      Array.from({ length: 16 }, (_, i) => other.call("lib.items", "new", { name: `Many ${String((i * 7) % 16).padStart(2, "0")}`, idx: 1 })),
    );
    await Promise.all(made.slice(0, 6).map((item) => other.call("lib.items", "remove", { id: item.id })));
    const left = made.slice(6).map((item) => item.name).sort();
    await until(
      () => JSON.stringify(pages.flatMap(names)) === JSON.stringify(left) && total.total === left.length,
      () => `pages ${JSON.stringify(pages.map(names))}, total ${total.total}, wanted ${left}`,
    );
  });
});
