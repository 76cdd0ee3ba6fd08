// What the page asks of its server. Paths are relative, so the page may be served below any prefix.

const url = (id, what) => `api/jobs/${encodeURIComponent(id)}/${what}`;
export const videoUrl = (id) => url(id, "file");
export const pictureUrl = (id) => url(id, "picture");

// The server's words for a refusal; `status` is 0 where it did not answer.
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", ...options });
  } catch {
    throw new Refused("The server does not answer.", 0);
  }
  if (answer.status === 401) location.reload();
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(content.message || `The server answered ${answer.status}.`, answer.status);
  return content;
}

export const options = () => ask("api/options");
export const create = (form) => ask("api/jobs", { method: "POST", body: form });
export const retry = (id, newId) => post(url(id, "retry"), { id: newId });
export const resolve = (id, decision) => post(url(id, "resolve"), decision);

const post = (path, content) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content) });

// An id that is hard to guess: the server makes one job of it, even if the request is sent again.
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// Calls back with every snapshot and change while the page is seen, and reconnects when the connection is lost.
export function watch(onNews, onLine) {
  let source, timer;
  const open = () => {
    source?.close();
    if (document.hidden) return; // a browser has six connections for a server, and all of its tabs share them
    source = new EventSource("api/events");
    source.onopen = () => onLine(true);
    source.onmessage = (message) => onNews(JSON.parse(message.data));
    source.onerror = () => {
      onLine(false);
      if (source.readyState === EventSource.CLOSED) again(2000); // a browser gives up where the server says no
    };
  };
  const again = (wait) => {
    clearTimeout(timer);
    timer = setTimeout(open, wait);
  };
  addEventListener("online", () => again(0));
  document.addEventListener("visibilitychange", () => again(0));
  addEventListener("offline", () => onLine(false));
  open();
}
