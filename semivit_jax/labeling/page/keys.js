// Which keys are the page's own, and which are those of the part that has the focus.

const LETTER = /^\p{L}$/u;
const SINGLE = "single keys"; // who turns them off finds them so the next time

// always, single, withCtrl: key -> what it does; single ones can be turned off. digit(number): of 1 to 9.
export function listenToKeys({ always, single, withCtrl, digit }) {
  const singleKeys = document.getElementById("single-keys");
  const written = document.getElementById("written");

  function ofSingle(key) {
    if (!singleKeys.checked) return undefined;
    if (/^[1-9]$/.test(key)) return () => digit(Number(key));
    if (LETTER.test(key)) written.focus(); // where the letter is then written
    return single[key];
  }

  // Whether a key labels, which it does once however long it is held; arrows and undo go on.
  function isLabel(event) {
    return !(event.key in always) && !event.ctrlKey && !event.metaKey && event.key !== "Backspace";
  }

  singleKeys.checked = localStorage.getItem(SINGLE) !== "off";
  singleKeys.addEventListener("change", () => localStorage.setItem(SINGLE, singleKeys.checked ? "on" : "off"));
  document.addEventListener("keydown", (event) => {
    if (event.isComposing) return; // Enter ends a word that is written with several keys
    const on = event.target;
    if (on.closest("input:not([type=range]):not([type=checkbox]), select, dialog[open]") || event.altKey) return;
    if (on.closest("button, a, input") && ["Enter", " "].includes(event.key)) return;
    if (on.type === "range" && event.key.startsWith("Arrow")) return;
    const action = event.ctrlKey || event.metaKey ? withCtrl[event.key] : always[event.key] ?? ofSingle(event.key);
    if (!action) return;
    event.preventDefault();
    if (event.repeat && isLabel(event)) return; // a key that is held down labels one image
    action(event);
  });
}
