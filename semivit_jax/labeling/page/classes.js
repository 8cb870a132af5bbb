// The list of classes at the side, the box for typing one, and the dialog that renames and merges.

import { shown } from "./model.js";
import { put, set } from "./say.js";

const KEYS = 9;
const MOST_MATCHES = 8;

export class Classes {
  // chosen(name): a class was picked or typed. renamed(name, newName). left(): nothing is typed any more.
  constructor(model, { chosen, renamed, left }) {
    this.model = model;
    this.left = left;
    this.chosen = chosen;
    this.renamed = renamed;
    this.list = document.getElementById("classes");
    this.input = document.getElementById("written");
    this.matches = document.getElementById("matches");
    this.at = 0;
    this.input.addEventListener("input", () => this.match());
    this.input.addEventListener("keydown", (event) => this.key(event));
    this.input.addEventListener("blur", () => this.close());
    document.getElementById("typing").addEventListener("submit", (event) => event.preventDefault());
    this.list.addEventListener("click", (event) => this.clicked(event));
    this.matches.addEventListener("mousedown", (event) => {
      event.preventDefault(); // the box keeps the focus, so its matches stay until one is taken
      const item = event.target.closest("li");
      if (item) this.take(item.dataset.name);
    });
    this.dialog = document.getElementById("renaming");
    this.dialog.addEventListener("close", () => this.finish());
    document.getElementById("new-name").addEventListener("input", () => this.note());
  }

  paint() {
    const names = this.model.classes;
    if (this.painted?.join("\n") !== names.join("\n")) this.build(names);
    const most = Math.max(1, ...names.map((name) => this.model.count(name)));
    [...this.list.children].forEach((item, number) => {
      const count = this.model.count(names[number]);
      put(item.querySelector(".class-count"), count.toLocaleString("en"));
      set(item.querySelector("meter"), "value", count / most);
    });
    for (const [id, label] of [["none-count", this.model.none], ["skip-count", null]]) {
      put(document.getElementById(id), this.model.count(label) ? this.model.count(label).toLocaleString("en") : "");
    }
    set(document.getElementById("no-classes"), "hidden", names.length > 0);
  }

  build(names) {
    this.painted = [...names];
    this.list.replaceChildren(...names.map((name, number) => this.item(name, number)));
  }

  item(name, number) {
    const item = document.createElement("li");
    const button = part("button", "class");
    button.type = "button";
    button.dataset.name = name;
    button.title = shown(name); // of which a narrow page shows the beginning
    const key = part(number < KEYS ? "kbd" : "span", number < KEYS ? "" : "no-key", number < KEYS ? String(number + 1) : "");
    const meter = part("meter", "");
    meter.setAttribute("aria-hidden", "true");
    button.append(key, part("span", "class-name", shown(name)), part("span", "class-count"), meter);
    const edit = part("button", "edit", "✎");
    edit.type = "button";
    edit.dataset.edit = name;
    edit.setAttribute("aria-label", `Rename or merge ${shown(name)}`);
    edit.title = "Rename or merge";
    item.append(button, edit);
    return item;
  }

  clicked(event) {
    const button = event.target.closest("button");
    if (button?.dataset.edit !== undefined) this.rename(button.dataset.edit);
    else if (button) this.chosen(button.dataset.name);
  }

  // The class of a key from 1 to 9.
  byKey(number) {
    return this.model.classes[number - 1];
  }

  match() {
    const written = tidy(this.input.value);
    const wanted = written.toLowerCase();
    const found = this.model.classes.filter((name) => name.toLowerCase().includes(wanted));
    found.sort((a, b) => rank(a, wanted) - rank(b, wanted));
    const isNew = written && !this.model.classes.some((name) => name.toLowerCase() === wanted);
    this.offers = found.slice(0, MOST_MATCHES).map((name) => ({ name, words: shown(name) }));
    if (isNew) this.offers.push({ name: written, words: `New class “${shown(written)}”` });
    this.at = 0;
    this.open(Boolean(written));
  }

  open(isOpen) {
    this.matches.hidden = !isOpen || !this.offers.length;
    this.input.setAttribute("aria-expanded", !this.matches.hidden);
    this.matches.replaceChildren(...(isOpen ? this.offers : []).map(({ name, words }, number) => {
      const item = part("li", "", words);
      item.id = `match-${number}`;
      item.dataset.name = name;
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", number === this.at);
      return item;
    }));
    if (this.matches.hidden) this.input.removeAttribute("aria-activedescendant");
    else this.input.setAttribute("aria-activedescendant", `match-${this.at}`);
  }

  close() {
    this.offers = [];
    this.open(false);
  }

  key(event) {
    if (event.isComposing) return; // Enter ends a word that is written with several keys
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && this.offers?.length) {
      this.at = (this.at + step + this.offers.length) % this.offers.length;
      this.open(true);
    } else if (event.key === "Enter" && this.offers?.length) this.take(this.offers[this.at].name);
    else if (event.key === "Escape") this.leave();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  take(name) {
    this.leave();
    this.chosen(name);
  }

  leave() {
    this.input.value = "";
    this.close();
    this.input.blur();
    this.left();
  }

  rename(name) {
    this.renaming = name;
    document.getElementById("renaming-title").textContent = `Rename ${shown(name)}`;
    document.getElementById("new-name").value = name;
    document.getElementById("class-names").replaceChildren(...this.model.classes.filter((other) => other !== name).map((other) => {
      const option = part("option", "");
      option.value = other;
      return option;
    }));
    this.dialog.returnValue = "cancel";
    this.note();
    this.dialog.showModal();
    document.getElementById("new-name").select();
  }

  get newName() {
    return tidy(document.getElementById("new-name").value);
  }

  note() {
    const images = `${this.model.count(this.renaming).toLocaleString("en")} images`;
    const merges = this.newName !== this.renaming && this.model.classes.includes(this.newName);
    const note = merges ? `There is such a class: ${shown(this.renaming)} becomes part of it, with its ${images}.` : `${images} have this class.`;
    document.getElementById("renaming-note").textContent = note;
    document.getElementById("rename").textContent = merges ? "Merge" : "Rename";
  }

  finish() {
    if (this.dialog.returnValue === "rename" && this.newName && this.newName !== this.renaming) this.renamed(this.renaming, this.newName);
  }
}

function part(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function tidy(written) {
  return written.trim().replace(/\s+/gu, " ");
}

// Names that are what was written come first, then those that begin so.
function rank(name, wanted) {
  const small = name.toLowerCase();
  return small === wanted ? 0 : small.startsWith(wanted) ? 1 : 2;
}
