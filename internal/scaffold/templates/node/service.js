// A service behind a Sluice gateway. It owns one resource, the model {{name}}.counter, which clients may read, subscribe
// to, and increment.

import { event, serve } from "./res.js";

const counter = { count: 0 };

await serve("{{name}}", {
  counter: {
    // Everybody may read the counter and call its method: replace this by a check of request.token before you serve
    // more than this.
    access: () => ({ get: true, call: "increment" }),
    get: () => ({ model: counter }),
    call: {
      increment() {
        counter.count++;
        event("{{name}}.counter", "change", { values: { count: counter.count } });
      },
    },
  },
});
