// A grid of many small pictures, of which only those in sight exist.

import { guessed, shown } from "./model.js";
import { mark, put } from "./say.js";

const GAP = 10;
const CAPTION = 24;
const ROWS_BEYOND = 2;
const SETTLE_MS = 70; // pictures that are scrolled past are not fetched

export class Grid {
  // clicked(index, event), opened(index): what a person does with a tile.
  constructor(model, { clicked, opened }) {
    this.model = model;
    this.scroller = document.getElementById("scroller");
    this.spacer = document.getElementById("spacer");
    this.list = [];
    this.tiles = new Map(); // index -> element
    this.side = 136;
    this.at = 0;
    this.chosen = new Set(); // places
    this.scroller.addEventListener("scroll", () => this.later());
    new ResizeObserver(() => this.layOut()).observe(this.scroller);
    this.scroller.addEventListener("click", (event) => this.hit(event, clicked));
    this.scroller.addEventListener("dblclick", (event) => this.hit(event, opened));
  }

  hit(event, action) {
    const tile = event.target.closest(".tile");
    if (tile) action(Number(tile.dataset.index), event);
  }

  show(list, at) {
    this.list = list;
    this.at = at;
    this.tiles.forEach((tile) => tile.remove());
    this.tiles.clear();
    this.layOut();
    this.reveal();
  }

  get columns() {
    return Math.max(1, Math.floor((this.scroller.clientWidth - GAP) / (this.side + GAP)));
  }

  get rows() {
    return Math.max(1, Math.floor(this.scroller.clientHeight / this.rowHeight));
  }

  get rowHeight() {
    return this.side + CAPTION + GAP;
  }

  layOut() {
    if (!this.scroller.clientWidth) return;
    const rows = Math.ceil(this.list.length / this.columns);
    this.spacer.style.height = `${rows * this.rowHeight + GAP}px`;
    this.draw(true);
  }

  later() {
    this.isDue ??= requestAnimationFrame(() => {
      this.isDue = undefined;
      this.draw(false);
    });
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.draw(true), SETTLE_MS);
  }

  // Brings tiles in sight into being, and lets the others go.
  draw(withPictures) {
    const { scrollTop, clientHeight } = this.scroller;
    const columns = this.columns;
    const first = Math.max(0, Math.floor(scrollTop / this.rowHeight) - ROWS_BEYOND) * columns;
    const last = Math.min(this.list.length, (Math.ceil((scrollTop + clientHeight) / this.rowHeight) + ROWS_BEYOND) * columns);
    for (const [index, tile] of this.tiles) {
      if (index < first || index >= last) {
        tile.remove();
        this.tiles.delete(index);
      }
    }
    const left = (this.scroller.clientWidth - columns * (this.side + GAP) + GAP) / 2;
    for (let index = first; index < last; index++) {
      const tile = this.tiles.get(index) ?? this.make(index);
      const x = left + (index % columns) * (this.side + GAP);
      const y = GAP + Math.floor(index / columns) * this.rowHeight;
      tile.style.transform = `translate(${x}px, ${y}px)`;
      tile.style.width = `${this.side}px`;
      tile.style.height = `${this.side + CAPTION}px`;
      const picture = tile.querySelector("img");
      if (withPictures && !picture.hasAttribute("src")) picture.src = this.model.picture("small", this.list[index]);
      this.paint(tile, index);
    }
    if (withPictures) this.fetchNames(this.list.slice(first, last));
  }

  async fetchNames(places) {
    if (await this.model.fetchNames(places)) this.draw(true);
  }

  make(index) {
    const tile = document.createElement("div");
    tile.className = "tile";
    tile.id = `tile-${index}`;
    tile.dataset.index = index;
    tile.setAttribute("role", "option");
    tile.setAttribute("aria-setsize", this.list.length);
    tile.setAttribute("aria-posinset", index + 1);
    const picture = document.createElement("img");
    picture.alt = "";
    picture.decoding = "async";
    picture.draggable = false;
    picture.addEventListener("load", () => picture.classList.toggle("small", picture.naturalWidth <= 96));
    picture.addEventListener("error", () => tile.classList.add("broken"));
    const caption = document.createElement("span");
    caption.className = "caption";
    tile.append(picture, caption);
    this.scroller.append(tile);
    this.tiles.set(index, tile);
    return tile;
  }

  // What may change of a tile: label, guess, name, choice.
  paint(tile, index) {
    const place = this.list[index];
    const label = this.model.labels[place];
    const guess = this.model.guesses.get(place);
    const name = shown(this.model.name(place));
    const caption = tile.querySelector(".caption");
    const kind = label === null ? "skipped" : label === this.model.none ? "none" : label ? "labeled" : guess ? "guessed" : "open";
    const words = { skipped: "skipped", none: "none", labeled: shown(label ?? ""), open: name.split("/").at(-1) };
    const text = kind === "guessed" ? guessed(guess) : words[kind];
    put(caption, text);
    mark(tile, "data-kind", kind);
    mark(tile, "title", name);
    mark(tile, "aria-label", `${name || `image ${place + 1}`}, ${kind === "open" ? "without a label" : text}`);
    mark(tile, "aria-selected", this.chosen.has(place));
    tile.classList.toggle("at", index === this.at);
  }

  repaint() {
    this.tiles.forEach((tile, index) => this.paint(tile, index));
    mark(this.scroller, "aria-activedescendant", `tile-${this.at}`);
  }

  // Scrolls so that the current tile is in sight.
  reveal() {
    const top = Math.floor(this.at / this.columns) * this.rowHeight;
    const { scrollTop, clientHeight } = this.scroller;
    if (top < scrollTop) this.scroller.scrollTop = top;
    else if (top + this.rowHeight > scrollTop + clientHeight) this.scroller.scrollTop = top + this.rowHeight + GAP - clientHeight;
    this.draw(this.scroller.scrollTop === scrollTop); // after a leap the scroll event brings the pictures
    this.repaint();
  }

  // Asks again for pictures that did not come.
  retry() {
    for (const [index, tile] of this.tiles) {
      if (!tile.classList.contains("broken")) continue;
      tile.remove();
      this.tiles.delete(index);
    }
    this.layOut();
  }

  resize(side) {
    this.side = side;
    this.layOut();
    this.reveal();
  }
}
