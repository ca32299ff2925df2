// A service of the resources below stuck, which replies to nothing until it is told to.

import { connect } from "@nats-io/transport-node";

export class Stuck {
  #messages = [];

  /** Connects to the NATS server that a gateway's log names. */
  static async of(gateway) {
    const s = new Stuck();
    s.nats = await connect({ servers: /nats:\/\/127\.0\.0\.1:\d+/.exec(gateway.output)[0] });
    s.nats.subscribe("*.stuck.>", { callback: (_, message) => s.#messages.push(message) });
    await s.nats.flush();
    return s;
  }

  /** Replies to all requests with an error, and leaves. */
  async release() {
    for (const m of this.#messages) m.respond('{"error":{"code":"system.notFound","message":"Not found"}}');
    await this.nats.drain();
  }
}
