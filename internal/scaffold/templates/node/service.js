// A service behind a Sluice gateway. It owns one resource, the model {{name}}.counter, which clients may read, subscribe
// to, and increment.

import { connect } from "@nats-io/transport-node";

const service = "{{name}}";
const counter = { count: 0 };

// What the service owns, by resource name. A handler returns a result, or throws an error with a code.
const resources = {
  [`${service}.counter`]: {
    // Everybody may read the counter and call its method: replace this by a check of request.token before you serve
    // more than this.
    access: () => ({ get: true, call: "increment" }),
    get: () => ({ model: counter }),
    call: {
      increment() {
        counter.count++;
        event(`${service}.counter`, "change", { values: { count: counter.count } });
        return null;
      },
    },
  },
};

class RequestError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** Publishes an event of a resource. The gateway sends it to the clients that hold the resource. */
function event(resource, name, data) {
  nc.publish(`event.${resource}.${name}`, JSON.stringify(data));
}

/** Makes gateways fetch all resources again: what changed while this service was away is unknown. */
function reset() {
  nc.publish("system.reset", JSON.stringify({ resources: [`${service}.>`], access: [`${service}.>`] }));
}

/** Finds the handler of a request. Its subject is the type, the resource's name, and for calls the method. */
function handler(subject) {
  const [type, ...name] = subject.split(".");
  const method = type === "call" ? name.pop() : null;
  const resource = Object.hasOwn(resources, name.join(".")) && resources[name.join(".")];
  if (!resource) throw new RequestError("system.notFound", "Not found");
  if (method === null) return resource[type];
  if (!Object.hasOwn(resource.call ?? {}, method)) throw new RequestError("system.methodNotFound", "Method not found");
  return resource.call[method];
}

function answer(failed, message) {
  if (failed) return; // the connection is closing
  let reply;
  try {
    const request = message.data.length > 0 ? message.json() : {};
    reply = { result: handler(message.subject)(request) };
  } catch (error) {
    if (!error.code) console.error(error);
    reply = { error: { code: error.code ?? "system.internalError", message: error.code ? error.message : "Internal error" } };
  }
  message.respond(JSON.stringify(reply));
}

const nc = await connect({
  servers: process.env.NATS_URL ?? "nats://127.0.0.1:4222",
  name: service,
  maxReconnectAttempts: -1,
}).catch((error) => {
  console.error(`connect to NATS: ${error.message}: start a gateway with an embedded server by sluice --embedded-nats, or name a server by NATS_URL`);
  process.exit(1);
});
for (const type of ["access", "get", "call"]) {
  nc.subscribe(`${type}.${service}.>`, { queue: service, callback: answer });
}
reset();
await nc.flush(); // the server has the subscriptions now
console.log(`${service} is serving`);

// Ctrl-C and SIGTERM end the service after the requests that it has received.
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => nc.drain());
for await (const status of nc.status()) {
  if (status.type === "reconnect") reset();
}
