// Random numbers that can be had again: a failure names its seed, E2E_SEED repeats it.

export const seed = Number(process.env.E2E_SEED ?? Date.now() % 1_000_000);

/** Returns a function that gives whole numbers from 0 to below its argument (mulberry32). */
export function random(seed) {
  return (below) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}
