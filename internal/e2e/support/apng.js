// Animated PNG (APNG, PNG specification third edition, 11.3.5): frames from screenshots, each stored as what has changed
// since the one before. Viewers that do not know it show the first frame.

import { crc32, deflateSync, inflateSync } from "node:zlib";

const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);

function chunk(type, ...parts) {
  const body = Buffer.concat([Buffer.from(type, "latin1"), ...parts]);
  const frame = Buffer.alloc(body.length + 8);
  frame.writeUInt32BE(body.length - 4);
  body.copy(frame, 4);
  frame.writeUInt32BE(crc32(body), body.length + 4);
  return frame;
}

const numbers = (...values) => {
  const buffer = Buffer.alloc(4 * values.length);
  values.forEach((value, i) => buffer.writeUInt32BE(value, 4 * i));
  return buffer;
};

/** The predictor of filter 4 (PNG specification, 9.4). */
function paeth(a, b, c) {
  const [pa, pb, pc] = [Math.abs(b - c), Math.abs(a - c), Math.abs(a + b - 2 * c)];
  return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
}

/** Returns the pixels of a screenshot: eight bits for each of red, green and blue. */
export function decode(png) {
  const data = [];
  let width, height, size;
  for (let at = 8; at < png.length; ) {
    const length = png.readUInt32BE(at);
    const type = png.toString("latin1", at + 4, at + 8);
    const body = png.subarray(at + 8, at + 8 + length);
    if (type === "IHDR") {
      [width, height] = [body.readUInt32BE(0), body.readUInt32BE(4)];
      size = { 2: 3, 6: 4 }[body[9]];
      if (body[8] !== 8 || !size || body[12] !== 0) throw new Error("a PNG of another kind than Chromium's screenshots");
    }
    if (type === "IDAT") data.push(body);
    at += 12 + length;
  }
  const raw = inflateSync(Buffer.concat(data));
  const stride = width * size;
  const lines = Buffer.alloc(stride * height);
  for (let y = 0; y < height; y++) {
    const filter = raw[y * (stride + 1)];
    for (let x = 0; x < stride; x++) {
      const i = y * stride + x;
      const a = x >= size ? lines[i - size] : 0;
      const b = y > 0 ? lines[i - stride] : 0;
      const c = x >= size && y > 0 ? lines[i - stride - size] : 0;
      lines[i] = raw[y * (stride + 1) + 1 + x] + [0, a, b, (a + b) >> 1, paeth(a, b, c)][filter];
    }
  }
  const rgb = Buffer.alloc(3 * width * height);
  for (let i = 0; i < width * height; i++) lines.copy(rgb, 3 * i, size * i, size * i + 3);
  return { width, height, rgb };
}

/** An animation of pictures of one size. */
export class Animation {
  #frames = []; // {x, y, width, height, data, ms}
  #last = null;

  constructor(width, height) {
    Object.assign(this, { width, height });
  }

  get length() {
    return this.#frames.length;
  }

  /** Adds a picture, of red, green and blue, that is shown for so long. One like the last prolongs that. */
  add(rgb, ms) {
    let [left, top, right, bottom] = [this.width, this.height, -1, -1];
    const changed = (i) => !this.#last || rgb[i] !== this.#last[i] || rgb[i + 1] !== this.#last[i + 1] || rgb[i + 2] !== this.#last[i + 2];
    for (let y = 0; y < this.height; y++) {
      for (let x = 0; x < this.width; x++) {
        if (!changed(3 * (y * this.width + x))) continue;
        [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x), y];
      }
    }
    if (right < 0) {
      this.#frames.at(-1).ms += ms;
      return;
    }
    const [width, height] = [right - left + 1, bottom - top + 1];
    // Pixels that stay are transparent.
    const lines = Buffer.alloc((4 * width + 1) * height);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const from = 3 * ((top + y) * this.width + left + x);
        if (!changed(from)) continue;
        const to = y * (4 * width + 1) + 1 + 4 * x;
        rgb.copy(lines, to, from, from + 3);
        lines[to + 3] = 255;
      }
    }
    this.#frames.push({ x: left, y: top, width, height, data: deflateSync(lines, { level: 9 }), ms });
    this.#last = rgb;
  }

  encode() {
    let sequence = 0;
    const parts = [signature, chunk("IHDR", numbers(this.width, this.height), Buffer.from([8, 6, 0, 0, 0])), chunk("acTL", numbers(this.#frames.length, 0))];
    this.#frames.forEach(({ x, y, width, height, data, ms }, i) => {
      const delay = Buffer.alloc(6);
      delay.writeUInt16BE(ms, 0);
      delay.writeUInt16BE(1000, 2);
      delay[5] = 1; // drawn over the frame before
      parts.push(chunk("fcTL", numbers(sequence++, width, height, x, y), delay));
      parts.push(i === 0 ? chunk("IDAT", data) : chunk("fdAT", numbers(sequence++), data));
    });
    return Buffer.concat([...parts, chunk("IEND")]);
  }
}
