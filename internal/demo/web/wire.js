// A window on the protocol: the frames that this tab sends and receives, the newest at the bottom.

const most = 60; // lines kept

export class Wire {
  #panel = document.getElementById("wire");
  #list = document.getElementById("wire-list");
  #withMarket = document.getElementById("wire-market");
  #kept = []; // frames from before the panel was opened

  constructor(client) {
    client.on("message", (message) => this.#take(message));
    document.getElementById("wire-clear").addEventListener("click", () => this.#list.replaceChildren());
    this.#panel.addEventListener("toggle", () => this.#flush());
  }

  #take(message) {
    if (!this.#withMarket.checked && message.text.startsWith('{"event":"demo.ticker.')) return;
    this.#kept.push(message);
    if (this.#kept.length > most) this.#kept.shift();
    if (this.#panel.open) this.#flush();
  }

  #flush() {
    const list = this.#list;
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    for (const { sent, text } of this.#kept.splice(0)) {
      const line = document.createElement("li");
      line.className = sent ? "sent" : "received";
      const way = document.createElement("span");
      way.className = "hidden";
      way.textContent = sent ? "Sent: " : "Received: ";
      const code = document.createElement("code");
      code.textContent = text.length > 2000 ? `${text.slice(0, 2000)}…` : text;
      line.append(way, code);
      list.append(line);
    }
    while (list.childElementCount > most) list.firstElementChild.remove();
    if (atEnd) list.scrollTop = list.scrollHeight;
  }
}
