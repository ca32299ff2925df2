// Waits for conditions and events, with a deadline that is reached only when something is broken.

export const patience = 20_000; // milliseconds

/** Resolves with the first truthy value of condition, which is checked every few milliseconds. */
export async function until(condition, what, limit = patience) {
  const deadline = Date.now() + limit;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`timed out waiting: ${typeof what === "function" ? what() : what}`);
    await new Promise((again) => setTimeout(again, 5));
  }
}

/** Resolves with the data of the next event of that name on a ResClient resource or client. */
export function next(target, name, limit = patience) {
  return new Promise((resolve, reject) => {
    const done = (settle) => (value) => {
      clearTimeout(timer);
      target.off(name, heard);
      settle(value);
    };
    const heard = done(resolve);
    const timer = setTimeout(() => done(reject)(new Error(`no ${name} event was received`)), limit);
    target.on(name, heard);
  });
}

/** The error that a promise is rejected with. */
export async function failure(promise) {
  let value;
  try {
    value = await promise;
  } catch (error) {
    return error;
  }
  throw new Error(`expected an error, got ${JSON.stringify(value)}`);
}
