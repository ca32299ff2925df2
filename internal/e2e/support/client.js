// ResClient, as its users have it, on a WebSocket for Node.

import resclient from "resclient";
import WebSocket from "ws";

export const ResClient = resclient.default ?? resclient;

/**
 * Connects a ResClient to a URL, or by a function that makes its WebSockets. It must be disconnected at the end. What
 * ResClient has to complain about in the gateway's messages, such as an event on a resource that it does not hold, it
 * throws; so it fails the test.
 */
export async function connect(url, options = {}) {
  // In a browser each message is a task of its own: what a promise has to do after one is done before the next.
  const socket = typeof url === "function" ? url : () => new WebSocket(url, { allowSynchronousEvents: false });
  const client = new ResClient(socket, { reconnectDelay: 50, ...options });
  await client.connect();
  return client;
}

/** Gets a resource and keeps it: ResClient drops what has no listener. */
export async function keep(client, rid) {
  const resource = await client.get(rid);
  resource.on(null, () => {});
  return resource;
}

/** Plain forms of the test service's resources, as its method "state" gives them. */
export const plain = {
  item: (model) => ({ id: model.id, name: model.name, owner: model.owner ? model.owner.getResourceId().split(".").at(-1) : "" }),
  items: (collection) => collection.toArray().map(plain.item),
};
