// One image, large, with its label and the model's guess; the pictures and names that come next are fetched before.

import { guessed, shown } from "./model.js";
import { $, mark, put, set, words } from "./say.js";

const AHEAD = 3; // large pictures that are fetched before they are asked for
const NAMES_AHEAD = 20;

export class Single {
  // named(): called when names have come that are shown.
  constructor(model, server, { named }) {
    Object.assign(this, { model, server, named });
    this.list = []; // places
    this.at = 0; // index into the list
    this.ahead = new Map(); // pictures that come next
    $("large").addEventListener("load", (event) => event.target.classList.toggle("small", event.target.naturalWidth <= 128));
    $("large").addEventListener("error", (event) => this.explain(event.target));
  }

  show(list, at) {
    Object.assign(this, { list, at });
    const place = list[at];
    const source = this.model.picture("large", place);
    if ($("large").getAttribute("src") !== source) {
      $("frame").classList.remove("broken");
      $("large").setAttribute("src", source);
      this.fetchAhead();
    }
    const name = shown(this.model.name(place));
    mark($("large"), "alt", name);
    put($("name"), name);
    const given = this.model.labels[place];
    put($("mark"), given === "" ? "" : words(given, this.model.none));
    mark($("mark"), "data-kind", given === null ? "skipped" : given === this.model.none ? "none" : given ? "labeled" : "open");
    const guess = this.model.guesses.get(place);
    set($("guess"), "hidden", !guess);
    if (guess && $("guess").dataset.words !== guessed(guess)) {
      const key = Object.assign(document.createElement("kbd"), { textContent: "Enter" });
      $("guess").replaceChildren(guessed(guess), ...(guess.label ? [" ", key] : []));
      $("guess").dataset.words = guessed(guess);
    }
    put($("place"), positioned(list, at));
    // Names come many at a time, and long before they are shown.
    if (list.slice(at, at + NAMES_AHEAD).some((other) => !this.model.names.has(other))) {
      this.model.fetchNames(list.slice(at, at + 4 * NAMES_AHEAD)).then((isNew) => isNew && this.named());
    }
  }

  fetchAhead() {
    const next = this.list.slice(this.at + 1, this.at + 1 + AHEAD).map((place) => this.model.picture("large", place));
    this.ahead = new Map(next.map((source) => [source, this.ahead.get(source) ?? Object.assign(new Image(), { src: source })]));
  }

  // Says why a picture did not come.
  async explain(picture) {
    const source = picture.getAttribute("src");
    $("frame").classList.add("broken");
    const why = await this.server.get(source).catch((error) => {
      if (error instanceof TypeError) $("frame").dataset.unanswered = ""; // nobody answered, and so nothing is known of it
      return error.message;
    });
    if (picture.getAttribute("src") === source) $("frame").dataset.why = `This image cannot be shown: ${why}`;
  }

  get isUnanswered() {
    return "unanswered" in $("frame").dataset;
  }

  // Asks for the picture again at the next `show`.
  retry() {
    delete $("frame").dataset.unanswered;
    $("large").removeAttribute("src");
  }

  // An image in words, for those who hear the page.
  described(list, at) {
    const [place, guess] = [list[at], this.model.guesses.get(list[at])];
    const given = this.model.labels[place];
    const rest = [given === "" ? "" : words(given, this.model.none), guess ? guessed(guess) : ""].filter(Boolean);
    return [shown(this.model.name(place)), positioned(list, at), ...rest].join(", ");
  }
}

function positioned(list, at) {
  return `${(at + 1).toLocaleString("en")} of ${list.length.toLocaleString("en")}`;
}
