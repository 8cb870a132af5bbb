// Talk to the server. What is asked for waits here until it is answered, so that a server that is away loses nothing.

const KEPT = `pending ${location.pathname}`;
const RETRY_MS = 1000;
const NEWS_MS = 2000;

export class Server {
  // heard(news, answers, isSame): called with whatever the server tells. refused(why): what was asked for is not done.
  // moved(): the images have other numbers. state(text, isBad): how saving goes.
  constructor({ heard, refused, moved, state }) {
    Object.assign(this, { heard, refused, moved, state });
    this.version = 0;
    this.guesses = 0;
    this.listing = "";
    this.waiting = [];
    this.sending = false;
    this.lost = 0; // actions of an earlier page whose images are not known any more
  }

  async get(path) {
    const answer = await fetch(path, { cache: "no-store" });
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.problem);
    return found;
  }

  async start() {
    const found = await this.get("start");
    if (this.listing && this.listing !== found.listing) return this.leave();
    const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "{}"); // of this page before it was loaded again
    if (!this.listing && kept.actions?.length) {
      this.waiting = kept.listing === found.listing ? kept.actions : await this.renumbered(kept.actions);
    }
    this.listing = found.listing;
    this.keep();
    this.guesses = 0;
    this.took(found);
    return found;
  }

  // The folder has changed: what waits is kept for the page that comes next, which has the numbers of its images.
  leave() {
    this.isLeft = true;
    this.moved();
    return null;
  }

  // What another page left behind, with the numbers that its images have now.
  async renumbered(actions) {
    const names = [...new Set(actions.flatMap((action) => action.names ?? []))];
    const answer = await this.post("places", names);
    const places = await answer.json();
    const place = new Map(names.map((name, number) => [name, places[number]]));
    const moved = actions.map((action) => ({ ...action, images: action.names?.map((name) => place.get(name)) }));
    const isWhole = ({ do: what, images, seen }) =>
      what !== "label" || (images?.length === seen.length && images.every((found) => Number.isInteger(found)));
    this.lost = moved.filter((action) => !isWhole(action)).length;
    return moved.filter(isWhole);
  }

  post(path, value) {
    return fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(value) });
  }

  // Keeps in mind what has been heard.
  took(news) {
    this.version = news.version;
    this.guesses += news.guesses.length;
    this.boot = news.boot;
  }

  ask(action) {
    this.waiting.push({ id: crypto.randomUUID(), ...action });
    this.keep();
    this.send();
    return this.waiting.at(-1).id;
  }

  keep() {
    try {
      sessionStorage.setItem(KEPT, JSON.stringify({ listing: this.listing, actions: this.waiting }));
    } catch {
      sessionStorage.removeItem(KEPT); // more than a browser keeps: it is sent all the same, and waits here until then
    }
  }

  async send() {
    if (this.sending || this.isLeft || !this.waiting.length) return;
    this.sending = true;
    const slow = setTimeout(() => this.state("Saving …", false), 300);
    const actions = this.waiting.slice(0, 100);
    try {
      const { version, guesses, listing } = this;
      const answer = await this.post("act", { actions: actions.map(({ names, ...rest }) => rest), version, guesses, listing });
      const found = await answer.json();
      if (answer.status === 409) return this.leave();
      if (answer.status >= 500) throw new Error(found.problem);
      this.waiting = this.waiting.slice(actions.length);
      this.keep();
      if (answer.ok) this.hear(found, found.answers);
      else this.refused(found.problem);
      this.state(this.waiting.length ? "Saving …" : "Saved", false);
    } catch (error) {
      const kept = `${this.waiting.length} kept in this page`;
      this.state(error instanceof TypeError ? `No answer from the server: ${kept}, tried again` : `${error.message}: ${kept}`, true);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    } finally {
      clearTimeout(slow);
      this.sending = false;
    }
    this.send();
  }

  hear(news, answers) {
    const isSame = news.boot === this.boot;
    if (isSame) this.took(news);
    this.heard(news, answers, isSame);
  }

  // Asks again and again what others have done.
  async listen() {
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, NEWS_MS));
      if (this.isLeft) return;
      if (this.sending || document.hidden) continue;
      try {
        const news = await this.get(`news?version=${this.version}&guesses=${this.guesses}`);
        if (this.sending) continue; // its answer says more
        this.hear(news, []);
        this.state(this.waiting.length ? "Saving …" : "Saved", false);
      } catch (error) {
        this.state("No answer from the server", true);
      }
    }
  }
}
