// What is known of the images: labels, guesses, names; and the lists of them that can be shown.

const NAMES_AT_ONCE = 200;

export class Model {
  constructor(server) {
    this.server = server;
    this.names = new Map();
    this.asked = new Set();
  }

  begin(found) {
    this.title = found.title;
    this.size = found.images;
    this.none = found.none;
    this.hasSimilar = found.similar;
    this.guessedBy = found.guessedBy;
    this.order = found.order.length ? found.order : null;
    this.labels = new Array(this.size).fill("");
    this.guesses = new Map();
    this.counts = new Map();
    this.classes = found.classes;
    for (const [label, places] of found.labels) for (const place of places) this.set(place, label);
    this.hear(found);
  }

  // label: "" none yet, null skipped.
  set(place, label) {
    const before = this.labels[place];
    if (before !== "") this.counts.set(before, this.counts.get(before) - 1);
    if (label !== "") this.counts.set(label, (this.counts.get(label) ?? 0) + 1);
    this.labels[place] = label;
  }

  hear(news) {
    this.classes = news.classes;
    this.undo = news.undo;
    this.redo = news.redo;
    this.isGuessing = news.guessing;
    for (const [place, label] of news.changed) this.set(place, label);
    for (const [place, label, confidence] of news.guesses) this.guesses.set(place, { label, confidence });
  }

  count(label) {
    return this.counts.get(label) ?? 0;
  }

  get lookedAt() {
    let sum = 0;
    for (const number of this.counts.values()) sum += number;
    return sum;
  }

  // Every list that can be shown: [key, words, its images in order].
  views() {
    const views = [["todo", "to label", () => this.all().filter((place) => this.labels[place] === "")]];
    if (this.guesses.size || this.isGuessing) {
      views.push(["unsure", "to label, least sure first", () => this.unsure()]);
      views.push(["differs", "where the guess differs", () => this.differing()]);
    }
    views.push(["all", "all images", () => this.all()]);
    views.push(["skipped", "skipped", () => this.having(null)], ["none", "belong to none", () => this.having(this.none)]);
    for (const name of this.classes) views.push([`class ${name}`, name, () => this.having(name)]);
    return views;
  }

  // In the order of the images to do, which come first.
  all() {
    const inOrder = new Set(this.order ?? []);
    const rest = Array.from({ length: this.size }, (_, place) => place).filter((place) => !inOrder.has(place));
    return [...inOrder, ...rest];
  }

  having(label) {
    return this.all().filter((place) => this.labels[place] === label);
  }

  unsure() {
    const open = [...this.guesses.keys()].filter((place) => this.labels[place] === "");
    return open.sort((a, b) => this.guesses.get(a).confidence - this.guesses.get(b).confidence);
  }

  differing() {
    const found = [...this.guesses].filter(([place, guess]) => this.labels[place] && guess.label && this.labels[place] !== guess.label);
    return found.sort((a, b) => b[1].confidence - a[1].confidence).map(([place]) => place);
  }

  name(place) {
    return this.names.get(place) ?? "";
  }

  // Where the picture of an image is. With the listing: another one has other images at the same places.
  picture(size, place) {
    return `picture/${size}/${place}?listing=${this.server.listing}`;
  }

  // Fetches the names that are not there yet; whether any have come.
  async fetchNames(places) {
    const missing = places.filter((place) => !this.names.has(place) && !this.asked.has(place)).slice(0, NAMES_AT_ONCE);
    const of = this.server.listing;
    if (!missing.length) return false;
    missing.forEach((place) => this.asked.add(place));
    try {
      const found = await this.server.get(`names?listing=${of}&places=${missing.join(",")}`);
      missing.forEach((place, number) => this.names.set(place, found[number]));
    } catch {
      return false; // asked for again when they are shown again
    } finally {
      missing.forEach((place) => this.asked.delete(place));
    }
    return true;
  }
}

// A guess in words; a model may abstain.
export function guessed({ label, confidence }) {
  const percent = `${Math.round(confidence * 100)} %`;
  return label ? `${shown(label)}? ${percent}` : `no guess, ${percent}`;
}

// A name with signs that cannot be seen, or turn the writing round, spelled out.
export function shown(name) {
  return name.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (sign) => `\\u{${sign.codePointAt(0).toString(16)}}`);
}
