// What is said beside the images: words for labels, hints, and how saving goes.

import { shown } from "./model.js";

const TOAST_MS = 5000;

export const $ = (id) => document.getElementById(id);

// Writes only what differs: a text that is written again is laid out and drawn again.
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function set(element, property, value) {
  if (element[property] !== value) element[property] = value;
}

export function mark(element, attribute, value) {
  if (element.getAttribute(attribute) !== String(value)) element.setAttribute(attribute, value);
}

// A label in words; none: the label of images that belong to no class.
export function words(label, none) {
  if (label === null) return "skipped";
  if (label === none) return "belongs to none";
  return label === "" ? "no label" : shown(label);
}

// The keys at the foot of the page.
export function hints(model, isGrid) {
  const some = isGrid
    ? [["Space", "choose"], ["Shift ←→", "several"], ["1–9", "label"], ["letters", "class"]]
    : [["1–9", "label"], ["letters", "class"], ["0", "none"], ["-", "skip"]];
  if (model.guesses.size) some.push(["Enter", "agree"]);
  some.push([".", isGrid ? "one" : "grid"]);
  if (model.hasSimilar) some.push([",", "similar"]);
  some.push(["Backspace", "undo"], ["?", "all keys"]);
  return some.map(([key, text]) => {
    const hint = document.createElement("span");
    hint.append(Object.assign(document.createElement("kbd"), { textContent: key }), ` ${text}`);
    return hint;
  });
}

export function say(text) {
  $("spoken").textContent = text;
}

export function toast(text, isBad = false) {
  $("toast").textContent = text;
  $("toast").classList.toggle("bad", isBad);
  $("toast").hidden = false;
  say(text);
  clearTimeout(toast.ends);
  toast.ends = setTimeout(() => ($("toast").hidden = true), TOAST_MS);
}

export function showState(text, isBad) {
  put($("saved"), text);
  if ($("saved").classList.contains("bad") !== isBad) $("saved").classList.toggle("bad", isBad);
}
