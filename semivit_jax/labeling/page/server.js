// Talk to the server. What is asked for waits here until it is answered, so that a server that is away loses nothing.

const KEPT = `pending ${location.pathname}`;
const RETRY_MS = 1000;
const NEWS_MS = 2000;

export class Server {
  // heard(news, answers): called with whatever the server tells. state(text, isBad): how saving goes.
  constructor({ heard, refused, state }) {
    Object.assign(this, { heard, refused, state });
    this.version = 0;
    this.guesses = 0;
    this.listing = "";
    this.waiting = [];
    this.sending = false;
  }

  async get(path) {
    const answer = await fetch(path, { cache: "no-store" });
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.problem);
    return found;
  }

  async start() {
    const found = await this.get("start");
    const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "{}"); // of this page before it was loaded again
    if (!this.listing && kept.listing === found.listing) this.waiting = kept.actions;
    this.listing = found.listing;
    this.guesses = 0;
    this.took(found);
    return found;
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
    sessionStorage.setItem(KEPT, JSON.stringify({ listing: this.listing, actions: this.waiting }));
  }

  async send() {
    if (this.sending || !this.waiting.length) return;
    this.sending = true;
    const slow = setTimeout(() => this.state("Saving …", false), 300);
    const actions = this.waiting.slice(0, 100);
    try {
      const body = JSON.stringify({ actions, version: this.version, guesses: this.guesses, listing: this.listing });
      const answer = await fetch("act", { method: "POST", headers: { "Content-Type": "application/json" }, body });
      const found = await answer.json();
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
