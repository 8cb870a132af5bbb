// The page: which images are shown, what keys and buttons do, and what is said of it.

import { Classes } from "./classes.js";
import { Grid } from "./grid.js";
import { listenToKeys } from "./keys.js";
import { Model, shown } from "./model.js";
import { $, hints, mark, put, say, set, showState, toast, words } from "./say.js";
import { Server } from "./server.js";
import { Single } from "./single.js";

const MOST_NAMES = 500; // of images of one action, that are kept with it until it is saved

const server = new Server({ heard, refused, moved, state: showState });
const model = new Model(server);
const classes = new Classes(model, {
  chosen: label,
  renamed: (name, to) => ask({ do: "rename", name, new: to }),
  left: focusImages,
});
const grid = new Grid(model, { clicked: clickTile, opened: openTile });
const single = new Single(model, server, { named: paint });

let view = "todo";
let list = []; // places
let at = 0; // index into the list
let anchor = 0; // where a choice of several begins
let isGrid = false;
let isAtEnd = false; // the last image of the list has its label: a key too many changes nothing
const backlog = []; // undo and redo that wait for the one before
let before = null; // list and place that "similar" was asked from

begin();

async function begin() {
  try {
    model.begin(await server.start());
  } catch (error) {
    $("problem").textContent = `The server does not answer: ${error.message}`;
    $("problem").hidden = false;
    return;
  }
  document.title = `${model.title} · label`;
  $("title").textContent = shown(model.title);
  if (model.guesses.size && !model.order) view = "unsure";
  server.waiting.forEach(keepShown);
  showProblem("");
  choose(view);
  listenToKeys({ always, single: byOneKey, withCtrl, digit });
  server.send();
  server.listen();
}

// Lists ----------------------------------------------------------------------------------------------------------

function choose(key) {
  const found = model.views().find(([name]) => name === key) ?? model.views()[0];
  view = found[0];
  before = null;
  show(found[2](), 0);
}

function placesOf(key) {
  return model.views().find(([name]) => name === key)?.[2]() ?? [];
}

function show(places, index) {
  list = places;
  grid.chosen.clear();
  go(index, true);
}

function go(index, isNew = false) {
  at = Math.max(0, Math.min(index, list.length - 1));
  isAtEnd = false;
  anchor = at;
  if (isGrid && isNew) grid.show(list, at);
  paint();
  if (isGrid) grid.reveal();
}

// To the next image that wants a label; round to the beginning, and to none where all have one.
function goOn(done) {
  const isReview = !["todo", "unsure"].includes(view) || before;
  const isLast = at + 1 >= list.length;
  if (isReview) {
    go(at + 1);
    isAtEnd = isLast;
    return;
  }
  const isOpen = (index) => model.labels[list[index]] === "" && !done.has(list[index]);
  for (let step = 1; step <= list.length; step++) {
    const index = (at + step) % list.length;
    if (isOpen(index)) return go(index);
  }
  const more = placesOf(view).filter((place) => model.labels[place] === ""); // guesses and labels come meanwhile
  if (more.length) return show(more, 0);
  go(at);
  isAtEnd = true;
}

// What is said to the server -----------------------------------------------------------------------------------------

function ask(action) {
  return server.ask(action);
}

function targets() {
  if (isGrid && grid.chosen.size) return [...grid.chosen];
  return list.length ? [list[at]] : [];
}

function label(name) {
  const places = targets();
  const isNew = Boolean(name) && name !== model.none && !model.classes.includes(name);
  if (!places.length && isNew) return ask({ do: "add", name });
  if (!places.length) return toast("There is no image here to label");
  if (isAtEnd && !grid.chosen.size) return toast("That was the last one; go to an image with the arrows to change it");
  const seen = places.map((place) => model.labels[place]);
  // With names, since numbers may be those of other images by the time that a server answers.
  ask({ do: "label", images: places, seen, label: name, names: places.slice(0, MOST_NAMES).map((place) => model.name(place)) });
  for (const place of places) model.set(place, name);
  if (isNew) model.classes = [...model.classes, name];
  const done = `${words(name, model.none)}: ${places.length === 1 ? shown(model.name(places[0])) : `${places.length} images`}`;
  grid.chosen.clear();
  if (name === "") go(at);
  else goOn(new Set(places));
  say(isGrid || isAtEnd ? done : `${done}. Now ${single.described(list, at)}`);
}

function agree() {
  const places = targets().filter((place) => model.guesses.get(place)?.label);
  if (!places.length) return toast("There is no guess to agree with");
  const names = new Set(places.map((place) => model.guesses.get(place).label));
  if (names.size > 1) return toast("The guesses of these images differ: choose those of one class");
  label([...names][0]);
}

function back(kind) {
  const latest = model[kind];
  if (server.waiting.some((action) => ["undo", "redo"].includes(action.do))) return backlog.push(kind);
  if (!latest && !server.waiting.length) return toast(`There is nothing to ${kind}`);
  ask({ do: kind, of: kind === "undo" && server.waiting.length ? server.waiting.at(-1).id : latest?.id ?? "" });
}

// Hears what the server tells: of this page's own actions and of others'.
async function heard(news, answers, isSame) {
  tell(answers);
  if (!isSame) return again();
  model.hear(news);
  for (const action of server.waiting) keepShown(action);
  const undone = answers.some((answer) => answer.done && /^(undo|redo): /.test(answer.words));
  if (undone && news.changed.length) showChanged(news.changed[0][0]);
  showProblem(news.problem);
  if (single.isUnanswered) askAgainForPictures();
  paint();
  if (backlog.length && !server.waiting.length) back(backlog.shift());
}

// Says what was done, and what was not: of several the first one.
function tell(answers) {
  const refusals = answers.filter((answer) => !answer.done);
  const first = refusals[0] ?? answers.findLast((answer) => answer.words);
  const more = refusals.length > 1 ? ` (and ${refusals.length - 1} more not done)` : "";
  if (first?.words) toast(first.words + more, refusals.length > 0);
}

// The server takes nothing of what was sent: what is shown of it is not so.
function refused(why) {
  toast(`Not saved: ${why}`, true);
  again();
}

function moved() {
  location.reload();
}

function showProblem(problem) {
  const lost = server.lost ? `${server.lost} not saved: the folder changed meanwhile, and their images are not known any more.` : "";
  put($("problem"), [problem, lost].filter(Boolean).join(" "));
  set($("problem"), "hidden", !problem && !lost);
}

function askAgainForPictures() {
  single.retry();
  grid.retry();
}

// What is on its way to the server stays as it is shown.
function keepShown(action) {
  if (action.do === "label") action.images.forEach((place) => model.set(place, action.label));
}

function showChanged(place) {
  const index = list.indexOf(place);
  if (index >= 0) go(index);
  else show([place, ...list], 0);
}

// The server has been started again: what it has is right, and what is on its way is asked for again.
async function again() {
  try {
    const found = await server.start();
    if (!found) return; // the images have other numbers, and the page is loaded again
    model.begin(found);
    for (const action of server.waiting) keepShown(action);
    askAgainForPictures();
    paint();
  } catch {
    showState("No answer from the server", true);
  }
}

// What is on the screen -------------------------------------------------------------------------------------------

function paint() {
  const total = model.size.toLocaleString("en");
  set($("bar"), "value", model.size ? model.lookedAt / model.size : 0);
  put($("count"), `${model.lookedAt.toLocaleString("en")} of ${total} looked at`);
  paintViews();
  classes.paint();
  set($("undo"), "disabled", !model.undo && !server.waiting.length);
  mark($("undo"), "title", model.undo ? `Undo (Backspace): ${model.undo.words}` : "Nothing to undo");
  set($("redo"), "disabled", !model.redo);
  mark($("redo"), "title", model.redo ? `Again (Ctrl+Y): ${model.redo.words}` : "Nothing to do again");
  set($("several"), "hidden", !isGrid);
  const isDone = !list.length || (["todo", "unsure"].includes(view) && !before && list.every((place) => model.labels[place] !== ""));
  set($("done"), "hidden", isGrid || (list.length > 0 && !isDone));
  set($("single"), "hidden", isGrid || !list.length);
  mark($("one"), "aria-pressed", !isGrid);
  mark($("many"), "aria-pressed", isGrid);
  set($("back"), "hidden", !before);
  set($("guessing"), "hidden", !model.guessedBy);
  if (model.guessedBy) {
    const number = model.guesses.size.toLocaleString("en");
    put($("guessing"), `${number} guesses by ${shown(model.guessedBy)}${model.isGuessing ? ", more are coming" : ""}`);
  }
  if (isGrid) paintGrid();
  else if (list.length) single.show(list, at);
  const kind = `${isGrid} ${model.guesses.size > 0}`;
  if ($("hints").dataset.kind !== kind) $("hints").replaceChildren(...hints(model, isGrid));
  mark($("hints"), "data-kind", kind);
}

function paintViews() {
  const options = model.views().map(([key, text, , ]) => ({ key, text }));
  const same = options.map((option) => option.key).join("\n");
  if ($("view").dataset.keys !== same) {
    $("view").dataset.keys = same;
    $("view").replaceChildren(...options.map(({ key, text }) => new Option(shown(text), key)));
  }
  $("view").value = view;
}

function paintGrid() {
  const text = before ? `images like ${shown(model.name(before.place))}, most alike first` : $("view").selectedOptions[0]?.text ?? "";
  const chosen = grid.chosen.size ? `, ${grid.chosen.size.toLocaleString("en")} chosen` : "";
  put($("several-title"), `${list.length.toLocaleString("en")} ${before ? "" : "· "}${text}${chosen}`);
  grid.at = at;
  grid.repaint();
}

// What a person does ------------------------------------------------------------------------------------------------

function layOut(asGrid) {
  isGrid = asGrid;
  grid.chosen.clear();
  paint();
  if (isGrid) grid.show(list, at);
  focusImages();
}

function focusImages() {
  (isGrid ? $("scroller") : $("stage")).focus({ preventScroll: true });
}

function clickTile(index, event) {
  if (event.shiftKey) return extend(index);
  if (event.ctrlKey || event.metaKey) toggle(index);
  else grid.chosen.clear();
  go(index);
}

function openTile(index) {
  go(index);
  layOut(false);
}

function toggle(index) {
  const place = list[index];
  if (!grid.chosen.delete(place)) grid.chosen.add(place);
}

// Chooses all from where the choice began.
function extend(index) {
  const start = anchor;
  const end = Math.max(0, Math.min(index, list.length - 1));
  grid.chosen = new Set(list.slice(Math.min(start, end), Math.max(start, end) + 1));
  go(end);
  anchor = start;
}

async function showSimilar() {
  if (!model.hasSimilar) return toast("Similar images need --embedding=DIR, which semivit embed writes");
  if (!list.length) return;
  const place = list[at];
  try {
    const found = await server.get(`similar/${place}?listing=${server.listing}`);
    if (!found.length) return toast("The embedding has no features of this image");
    before ??= { list, at, isGrid, place };
    before.place = place;
    show(found.map(([other]) => other), 0);
    layOut(true);
  } catch (error) {
    toast(error.message, true);
  }
}

function leaveSimilar() {
  const { list: places, at: index, isGrid: wasGrid } = before;
  before = null;
  show(places, index);
  layOut(wasGrid);
}

function escape() {
  if (grid.chosen.size) grid.chosen.clear();
  else if (before) return leaveSimilar();
  paint();
}

function move(step, event) {
  if (event.shiftKey && isGrid) extend(at + step);
  else go(at + step);
  if (!isGrid && list.length) say(single.described(list, at));
}

const always = {
  ArrowRight: (event) => move(1, event),
  ArrowLeft: (event) => move(-1, event),
  ArrowDown: (event) => isGrid && move(grid.columns, event),
  ArrowUp: (event) => isGrid && move(-grid.columns, event),
  PageDown: (event) => isGrid && move(grid.columns * grid.rows, event),
  PageUp: (event) => isGrid && move(-grid.columns * grid.rows, event),
  Home: (event) => move(-list.length, event),
  End: (event) => move(list.length, event),
  Escape: escape,
  "?": () => $("keys").showModal(),
};
const byOneKey = {
  Enter: agree,
  0: () => label(model.none),
  "-": () => label(null),
  Delete: () => label(""),
  Backspace: () => back("undo"),
  ".": () => layOut(!isGrid),
  ",": showSimilar,
  " ": () => isGrid && (toggle(at), paint()),
};
const withCtrl = {
  z: () => back("undo"),
  Z: () => back("redo"),
  y: () => back("redo"),
  a: () => isGrid && ((grid.chosen = new Set(list)), paint()),
};

function digit(number) {
  const name = classes.byKey(number);
  return name ? label(name) : toast(`There is no class ${number} yet`);
}

// Who clicks goes on with the images: Enter agrees with the next guess, and does not press the button again.
let isByMouse = false;
document.addEventListener("pointerdown", () => (isByMouse = true), true);
document.addEventListener("keydown", () => (isByMouse = false), true);
document.addEventListener("click", (event) => {
  if (isByMouse && event.target.closest("aside button:not(.edit), header button:not(#help)")) focusImages();
});

$("view").addEventListener("change", () => {
  choose($("view").value);
  if (isByMouse) focusImages();
});
$("view").addEventListener("keydown", (event) => ["Enter", "Escape"].includes(event.key) && focusImages());
$("one").addEventListener("click", () => layOut(false));
$("many").addEventListener("click", () => layOut(true));
$("undo").addEventListener("click", () => back("undo"));
$("redo").addEventListener("click", () => back("redo"));
$("help").addEventListener("click", () => $("keys").showModal());
$("none").addEventListener("click", () => label(model.none));
$("skip").addEventListener("click", () => label(null));
$("clear").addEventListener("click", () => label(""));
$("back").addEventListener("click", leaveSimilar);
$("tile-size").addEventListener("input", (event) => grid.resize(Number(event.target.value)));
window.addEventListener("beforeunload", (event) => server.waiting.length && !server.isLeft && event.preventDefault());
