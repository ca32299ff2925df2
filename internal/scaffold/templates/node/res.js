// What a service needs of the RES protocol, on the NATS client: requests come in, replies and events go out. It is
// yours to change.

import { connect, createInbox } from "@nats-io/transport-node";

/** An error for the client. The codes that begin with "system." are the protocol's. */
export class RequestError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

export const notFound = () => new RequestError("system.notFound", "Not found");
export const invalidParams = (message) => new RequestError("system.invalidParams", message);

/** An access handler for what everybody may see and call. */
export const granted = () => ({ get: true, call: "*" });

/** The result of a call that is a resource: the client is subscribed to it. */
export class Resource {
  constructor(rid) {
    this.rid = rid;
  }
}

let nc;

export const publish = (subject, value) => nc.publish(subject, JSON.stringify(value)); // no payload for undefined

/** Publishes an event of a resource. The gateway sends it to the clients that hold the resource. */
export const event = (resource, name, data) => publish(`event.${resource}.${name}`, data);

/** Makes gateways fetch again what they have cached of these, and request access to them again. */
export const reset = (resources, access = []) => publish("system.reset", { resources, access });

/** Gives a client's connection a token. */
export const setToken = (request, token) => publish(`conn.${request.cid}.token`, { token });

/** Makes the gateway send each query of a resource that it has cached; handler returns the resource as it is now. */
export function queryEvent(resource, handler) {
  const subject = createInbox();
  const sub = nc.subscribe(subject, { callback: (failed, message) => failed || enqueue(message, handler) });
  setTimeout(() => sub.unsubscribe(), 10_000).unref(); // gateways send all queries immediately
  event(resource, "query", { subject });
}

/**
 * Serves resources until Ctrl-C or SIGTERM. Their names follow that of the service, and may have parts such as $id. A
 * handler gets the request, and the parts of the name as an object; it returns a result or throws a RequestError.
 */
export async function serve(service, resources) {
  nc = await connect({ servers: process.env.NATS_URL ?? "nats://127.0.0.1:4222", name: service, maxReconnectAttempts: -1 }).catch((error) => {
    console.error(`connect to NATS: ${error.message}: start a gateway with an embedded server by sluice --embedded-nats, or name a server by NATS_URL`);
    process.exit(1);
  });
  const subs = ["access", "get", "call", "auth"].map((type) => {
    const callback = (failed, message) => failed || enqueue(message, handler(resources, message.subject));
    return nc.subscribe(`${type}.${service}.>`, { queue: service, callback });
  });
  const all = [`${service}.>`];
  reset(all, all); // what has changed while this service was away is unknown
  await nc.flush(); // the server has the subscriptions now
  console.log(`${service} is serving`);
  let connected = true;
  const stop = async () => {
    if (!connected) process.exit(0);
    await Promise.all(subs.map((sub) => sub.drain()));
    await last; // the requests that have been received are replied to
    await nc.drain();
  };
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, stop);
  for await (const status of nc.status()) {
    if (status.type === "disconnect") connected = false;
    if (status.type !== "reconnect") continue;
    connected = true;
    reset(all, all);
  }
}

/** Finds the handler of a subject: the type, the resource's name, and for calls and auth the method. */
function handler(resources, subject) {
  const [type, , ...name] = subject.split(".");
  const method = type === "call" || type === "auth" ? name.pop() : null;
  for (const [pattern, handlers] of Object.entries(resources)) {
    const parts = pattern.split(".");
    const path = {};
    const matches = (part, i) => (part.startsWith("$") ? ((path[part.slice(1)] = name[i]), true) : part === name[i]);
    if (parts.length !== name.length || !parts.every(matches)) continue;
    if (method === null) return handlers[type] && ((request) => handlers[type](request, path));
    if (Object.hasOwn(handlers[type] ?? {}, method)) return (request) => handlers[type][method](request, path);
    return () => {
      throw new RequestError("system.methodNotFound", "Method not found");
    };
  }
}

// One request at a time, in their order, also if a handler awaits something: handlers may share data.
let last = Promise.resolve();
const enqueue = (message, handler) => (last = last.then(() => answer(message, handler)));

async function answer(message, handler) {
  let reply;
  try {
    if (!handler) throw notFound();
    const request = message.data.length > 0 ? message.json() : {};
    request.moreTime = (milliseconds) => message.respond(`timeout:"${milliseconds}"`);
    const result = await handler(request);
    reply = result instanceof Resource ? { resource: result } : { result: result ?? null };
  } catch (error) {
    if (!(error instanceof RequestError)) console.error(error);
    const known = error instanceof RequestError ? error : new RequestError("system.internalError", "Internal error");
    reply = { error: { code: known.code, message: known.message } };
  }
  message.respond(JSON.stringify(reply));
}
