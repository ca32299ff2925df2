// The book list. One list element per book model, made once and kept: an event never touches a field that somebody is
// typing in, so the focus and the typed text stay while others edit.

export class Books {
  #client;
  #list = document.getElementById("books");
  #template = document.getElementById("book-row");
  #empty = document.getElementById("books-empty");
  #count = document.getElementById("book-count");
  #form = document.getElementById("add");
  #rows = []; // one for each item of the collection, in its order
  #online = false;
  #editable = false;
  #ends = []; // functions that end our listening

  constructor(client) {
    this.#client = client;
    this.#form.addEventListener("submit", (event) => this.#submit(event));
  }

  /** Shows the collection, instead of what was shown before. */
  show(collection) {
    for (const end of this.#ends) end();
    while (this.#rows.length) this.#remove(0);
    collection.items.forEach((book, idx) => this.#add(book, idx));
    this.#ends = [
      collection.on("add", ({ value, idx }) => this.#add(value, idx).arrive()),
      collection.on("remove", ({ idx }) => this.#remove(idx)),
      collection.on("activity", (a) => this.#tell(a)),
    ];
    this.#counted();
  }

  complain(error) {
    this.#empty.textContent = `No books: ${error.message}`;
  }

  online(yes) {
    this.#online = yes;
    this.#permit();
  }

  editable(yes) {
    this.#editable = yes;
    document.getElementById("books-hint").textContent = yes
      ? "Click into a line to change it. Everybody sees it at once."
      : "Sign in to edit. Until then you read along.";
    this.#permit();
  }

  #permit() {
    const may = this.#online && this.#editable;
    document.getElementById("add-fields").disabled = !may;
    for (const row of this.#rows) row.permit(may);
  }

  #add(book, idx) {
    const row = new Row(this.#template.content.firstElementChild.cloneNode(true), book, this.#client);
    row.permit(this.#online && this.#editable);
    this.#list.insertBefore(row.element, this.#rows[idx]?.element ?? null);
    this.#rows.splice(idx, 0, row);
    this.#counted();
    return row;
  }

  #remove(idx) {
    const [row] = this.#rows.splice(idx, 1);
    const focused = row.element.contains(document.activeElement);
    row.close();
    this.#counted();
    if (focused) (this.#rows[Math.min(idx, this.#rows.length - 1)] ?? this).focus();
  }

  focus() {
    document.getElementById("books-title").focus();
  }

  #counted() {
    const n = this.#rows.length;
    this.#count.textContent = n;
    this.#empty.hidden = n > 0;
    this.#empty.textContent = "No books. Add the first one.";
  }

  async #submit(event) {
    event.preventDefault();
    const { title, author } = this.#form.elements;
    const error = document.getElementById("add-error");
    error.textContent = "";
    for (const field of [title, author]) {
      field.ariaInvalid = field.value.trim() ? "false" : "true";
    }
    const missing = [title, author].find((field) => field.ariaInvalid === "true");
    if (missing) {
      error.textContent = `Please enter ${missing === title ? "a title" : "an author"}`;
      missing.focus();
      return;
    }
    try {
      // The answer is the new book as a resource, to which we are then subscribed. The list refers to it already, so
      // it stays with us when that subscription is given back.
      const book = await this.#client.call("demo.books", "new", { title: title.value, author: author.value });
      this.#client.unsubscribe(book.rid);
      title.value = author.value = "";
      title.focus();
    } catch (e) {
      error.textContent = e.message;
    }
  }

  #tell({ who, did, title }) {
    document.getElementById("activity").textContent = `${who} ${did} “${title}”`;
  }
}

class Row {
  #book;
  #client;
  #fields;
  #note;
  #error;
  #remove;
  #end;

  constructor(element, book, client) {
    this.element = element;
    this.#book = book;
    this.#client = client;
    this.#fields = [element.querySelector(".title"), element.querySelector(".author")];
    this.#note = element.querySelector(".note");
    this.#error = element.querySelector(".error");
    this.#remove = element.querySelector(".remove");
    for (const field of this.#fields) {
      field.addEventListener("change", () => this.#save(field));
      field.addEventListener("keydown", (event) => this.#key(event, field));
      field.addEventListener("blur", () => this.#settle(field));
    }
    this.#remove.addEventListener("click", () => this.#take());
    this.#end = book.on("change", ({ changed }) => this.#changed(changed));
    for (const field of this.#fields) this.#settle(field);
  }

  close() {
    this.#end();
    this.element.remove();
  }

  focus() {
    this.#fields[0].focus();
  }

  /** A short light for a book that is new. */
  arrive() {
    this.element.classList.add("new");
  }

  permit(may) {
    for (const field of this.#fields) field.readOnly = !may;
    this.#remove.hidden = !may;
  }

  #value(field) {
    return this.#book.props?.[field.name] ?? "";
  }

  #isDirty(field) {
    return field.value !== (field.dataset.shown ?? "");
  }

  /** Shows the book's value, unless somebody is in the middle of typing another. */
  #settle(field) {
    this.#label();
    if (field === document.activeElement && this.#isDirty(field)) return;
    if (field.ariaInvalid === "true" && this.#isDirty(field)) return;
    this.#put(field);
  }

  #put(field) {
    const value = this.#value(field);
    if (field.value !== value) field.value = value;
    field.dataset.shown = value;
    field.ariaInvalid = "false";
  }

  #label() {
    const title = this.#book.props?.title ?? this.#book.rid;
    this.#fields[0].ariaLabel = `Title of “${title}”`;
    this.#fields[1].ariaLabel = `Author of “${title}”`;
    this.#remove.ariaLabel = `Remove “${title}”`;
    this.#remove.title = "Remove";
  }

  /** A change by any client: perhaps the echo of our own. */
  #changed(changed) {
    for (const field of this.#fields) {
      if (!(field.name in changed)) continue;
      if (field === document.activeElement && this.#isDirty(field) && field.value.trim() !== this.#value(field)) {
        this.#note.textContent = `Now “${this.#value(field)}” for everybody. Enter keeps yours, Escape takes theirs.`;
      }
      this.#settle(field);
    }
  }

  #key(event, field) {
    if (event.key === "Enter") {
      // The browser fires "change" by itself only if it saw the user type since the last time.
      event.preventDefault();
      this.#save(field);
    } else if (event.key === "Escape") {
      this.#put(field);
      this.#note.textContent = this.#error.textContent = "";
    }
  }

  async #save(field) {
    this.#note.textContent = this.#error.textContent = "";
    const text = field.value.trim();
    if (field.readOnly || text === this.#value(field)) return this.#put(field);
    try {
      await this.#client.call(this.#book.rid, "set", { [field.name]: text });
      // The events came before the answer: the model has the new value, and perhaps already somebody's next one.
      field.dataset.shown = field.value;
      this.#settle(field);
    } catch (error) {
      field.ariaInvalid = "true";
      this.#error.textContent = error.message;
    }
  }

  async #take() {
    try {
      await this.#client.call("demo.books", "remove", { id: this.#book.props.id });
    } catch (error) {
      this.#error.textContent = error.message;
    }
  }
}
