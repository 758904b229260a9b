// Keeps the page live: the server says what changed, the parts of the page that show it are fetched again.
//
// 1. A part lists in `data-live` the words that concern it; a word that the page does not know concerns every part.
// 2. Changes are gathered: one refresh within a second, however many events come.
// 3. While the stream is away the page says so; once it is back everything is fetched again.
(() => {
  "use strict";

  const SOON_MS = 250;
  const APART_MS = 1000;
  const state = document.getElementById("live-state");
  const parts = () => Array.from(document.querySelectorAll("[data-live]"));
  const known = new Set(document.body.dataset.words.split(" "));
  const words = (part) => (part.dataset.live || "").split(" ");
  let waiting = new Set();
  let timer = null;
  let latest = 0;
  let lost = false;

  const say = (word) => {
    state.hidden = false;
    state.textContent = word;
    state.dataset.state = word;
  };

  const refresh = () => {
    timer = null;
    latest = Date.now();
    const all = Array.from(waiting).some((word) => !known.has(word));
    for (const part of parts()) {
      if (all || words(part).some((word) => waiting.has(word))) {
        part.dispatchEvent(new CustomEvent("changed"));
      }
    }
    waiting = new Set();
  };

  const changed = (what) => {
    what.forEach((word) => waiting.add(word));
    if (timer === null && waiting.size > 0) {
      timer = setTimeout(refresh, Math.max(SOON_MS, latest + APART_MS - Date.now()));
    }
  };

  const listen = () => {
    const events = new EventSource("/api/v1/events");
    say("connecting");
    events.addEventListener("open", () => {
      say("live");
      if (lost) {
        changed(["everything"]);
      }
      lost = false;
    });
    events.addEventListener("error", () => {
      lost = true;
      say("reconnecting");
      if (events.readyState === EventSource.CLOSED) {
        setTimeout(listen, 5000);
      }
    });
    events.addEventListener("change", (event) => {
      changed(JSON.parse(event.data).what || ["everything"]);
    });
  };

  listen();
})();
