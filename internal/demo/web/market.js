// The ticker board. One table row per ticker model, made once; each change event touches only what changed.

const price = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const percent = new Intl.NumberFormat("en", {
  style: "percent",
  minimumFractionDigits: 2,
  maximumFractionDigits: 2,
  signDisplay: "exceptZero",
});

/** How many prices a trend line shows. */
const points = 48;

export class Market {
  #body = document.getElementById("tickers");
  #template = document.getElementById("ticker-row");
  #empty = document.getElementById("market-empty");
  #rows = []; // one for each item of the collection, in its order

  #ends = []; // functions that end our listening

  /** Shows the collection, instead of what was shown before. */
  show(tickers) {
    for (const end of this.#ends) end();
    while (this.#rows.length) this.#remove(0);
    tickers.items.forEach((ticker, idx) => this.#add(ticker, idx));
    this.#ends = [
      tickers.on("add", ({ value, idx }) => this.#add(value, idx)),
      tickers.on("remove", ({ idx }) => this.#remove(idx)),
    ];
  }

  complain(error) {
    this.#empty.textContent = `No prices: ${error.message}`;
  }

  #add(ticker, idx) {
    const row = new Row(this.#template.content.firstElementChild.cloneNode(true), ticker);
    this.#body.insertBefore(row.element, this.#rows[idx]?.element ?? null);
    this.#rows.splice(idx, 0, row);
    this.#empty.hidden = true;
  }

  #remove(idx) {
    const [row] = this.#rows.splice(idx, 1);
    row.close();
    this.#empty.hidden = this.#rows.length > 0;
  }
}

class Row {
  #ticker;
  #history = [];
  #end;

  constructor(element, ticker) {
    this.element = element;
    this.#ticker = ticker;
    this.#end = ticker.on("change", ({ changed }) => this.#draw(changed));
    this.#draw({});
  }

  close() {
    this.#end();
    this.element.remove();
  }

  #cell(name) {
    return this.element.querySelector(`.${name}`);
  }

  #draw(changed) {
    const p = this.#ticker.props;
    const move = p.price / p.open - 1;
    this.#cell("symbol").textContent = p.symbol;
    this.#cell("name").textContent = p.name;
    this.#cell("price").textContent = price.format(p.price);
    const badge = this.#cell("move");
    badge.textContent = percent.format(move);
    badge.dataset.way = move > 0 ? "up" : move < 0 ? "down" : "even";
    this.element.querySelector("td.range").textContent = `${price.format(p.low)} – ${price.format(p.high)}`;
    if ("price" in changed) this.#flash(p.price > changed.price ? "up" : "down");
    this.#trend(p.price, badge.dataset.way);
  }

  /** Lets the price light up. An animation that runs already begins anew. */
  #flash(way) {
    const cell = this.#cell("price");
    if (!cell.animate || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    const color = getComputedStyle(cell).getPropertyValue(`--${way}-soft`);
    cell.animate([{ backgroundColor: color }, { backgroundColor: "transparent" }], { duration: 900, easing: "ease-out" });
  }

  #trend(value, way) {
    this.#history.push(value);
    if (this.#history.length > points) this.#history.shift();
    const low = Math.min(...this.#history);
    const span = Math.max(...this.#history) - low || 1;
    // One price alone is a level line; a few fill the width as well as many.
    const shown = this.#history.length > 1 ? this.#history : [value, value];
    const step = 120 / (shown.length - 1);
    const at = (v, i) => `${(i * step).toFixed(1)},${(29 - ((v - low) / span) * 26).toFixed(1)}`;
    const line = this.element.querySelector("polyline");
    line.setAttribute("points", shown.map(at).join(" "));
    line.dataset.way = way;
  }
}
