// The list of videos: a card for each job, newest first. Text is set as text, never as HTML.

import { pictureUrl, videoUrl } from "./api.js";

const GROUPS = { all: "All", moving: "Under way", done: "Done", failed: "Failed", doubt: "In doubt" };
const NAMES = {
  queued: "In line", sending: "Sending", processing: "Being made", success: "Done", failed: "Failed",
  refused: "Refused", unknown: "In doubt", unsent: "Not sent",
};
const GROUP_OF = { success: "done", failed: "failed", refused: "failed", unknown: "doubt", unsent: "failed" };
const groupOf = (job) => GROUP_OF[job.status] || "moving";

const list = document.getElementById("list");
const template = document.getElementById("card");
const live = document.getElementById("live");
const cards = new Map(); // id -> { node, job }
let shown = "all";
let actions = {};

// Players exist only near the window: a thousand of them would be too many.
const near = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const card = cards.get(entry.target.dataset.id);
    if (card) (entry.isIntersecting ? fillScreen : emptyScreen)(card);
  }
}, { rootMargin: "300px" });

export function start(handlers) {
  actions = handlers;
  const filters = document.getElementById("filters");
  for (const [group, name] of Object.entries(GROUPS)) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.group = group;
    button.dataset.name = name;
    button.addEventListener("click", () => show(group));
    filters.append(button);
  }
  show("all");
  setInterval(() => cards.forEach(showWhen), 1000);
}

// Takes jobs that are new or changed; a snapshot also says, by leaving them out, which are gone.
export function take(jobs, isSnapshot) {
  if (isSnapshot) {
    const there = new Set(jobs.map((job) => job.id));
    for (const [id, card] of cards) if (!there.has(id)) drop(id, card);
  }
  const fresh = document.createDocumentFragment();
  for (const job of jobs.slice().sort((a, b) => b.order - a.order)) {
    const card = cards.get(job.id);
    if (card) change(card, job);
    else fresh.append(add(job));
  }
  list.prepend(fresh);
  count();
}

function add(job) {
  const node = template.content.firstElementChild.cloneNode(true);
  node.dataset.id = job.id;
  const card = { node, job: null, part: (name) => node.querySelector(`.${name}`) };
  cards.set(job.id, card);
  change(card, job);
  near.observe(node);
  return node;
}

function drop(id, card) {
  near.unobserve(card.node);
  card.node.remove();
  cards.delete(id);
}

function change(card, job) {
  const before = card.job;
  card.job = { ...job, heardAt: performance.now() };
  if (before && JSON.stringify(before, skipTime) === JSON.stringify(card.job, skipTime)) return;
  const { node, part } = card;
  node.dataset.group = groupOf(job);
  node.toggleAttribute("data-moving", groupOf(job) === "moving" && job.status !== "queued");
  node.toggleAttribute("data-bare", !job.has_picture && ["failed", "doubt"].includes(groupOf(job)));
  node.hidden = shown !== "all" && shown !== groupOf(job);
  part("chip").textContent = NAMES[job.status] || job.status;
  part("prompt").textContent = job.prompt || (job.named ? job.name : "");
  part("facts").textContent = facts(job);
  part("error").textContent = job.error || "";
  showWhen(card);
  showActions(card);
  if (before && before.status !== job.status) {
    tell(`${title(job)}: ${NAMES[job.status] || job.status}`);
    emptyScreen(card, true);
    fillScreen(card);
  }
}

const skipTime = (name, value) => (name === "heardAt" || name === "seconds_left" ? undefined : value);
const title = (job) => (job.prompt || job.name || "A video").slice(0, 60);
const tell = (words) => { live.textContent = words; };

function facts(job) {
  const paid = job.cost ? `$${Number(job.cost).toFixed(2)}` : "";
  return [job.named && job.prompt ? job.name : "", job.model, job.duration ? `${job.duration} s` : "", job.resolution, paid]
    .filter(Boolean).join(" · ");
}

function showWhen(card) {
  const { job } = card;
  let words = "";
  if (groupOf(job) === "moving") {
    const left = job.seconds_left === null ? null : job.seconds_left - (performance.now() - job.heardAt) / 1000;
    const about = left === null ? "" : left < 5 ? "any moment" : `about ${span(left)}`;
    words = [job.place ? `place ${job.place}` : "", about].filter(Boolean).join(", ");
  } else if (job.ended_at) words = new Date(job.ended_at * 1000).toLocaleString([], { dateStyle: "short", timeStyle: "short" });
  const when = card.part("when");
  if (when.textContent !== words) when.textContent = words;
}

const span = (seconds) => (seconds < 90 ? `${Math.round(seconds / 5) * 5} s` : `${Math.round(seconds / 60)} min`);

function showActions(card) {
  const { job } = card;
  const box = card.part("actions");
  const had = document.activeElement && box.contains(document.activeElement);
  box.replaceChildren();
  if (job.status === "success") {
    const link = document.createElement("a");
    link.className = "button";
    link.href = videoUrl(job.id);
    link.download = `${job.name || "video"}.mp4`;
    link.textContent = "Download";
    box.append(link);
  }
  if (job.status === "unknown") box.append(button("Decide…", () => actions.decide(job)));
  if (job.can_retry) box.append(button(job.status === "success" ? "Make another" : "Try again", (event) => actions.retry(job, event.target)));
  for (const each of box.children) each.setAttribute("aria-label", `${each.textContent}: ${title(job)}`);
  if (had && box.firstChild) box.firstChild.focus();
}

function button(words, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = words;
  made.addEventListener("click", act);
  return made;
}

function fillScreen({ node, job, part }) {
  const screen = part("screen");
  if (screen.firstChild || !node.isConnected) return;
  const poster = job.has_picture ? pictureUrl(job.id) : "";
  if (job.status === "success") {
    const video = document.createElement("video");
    video.controls = true;
    video.playsInline = true;
    video.loop = true;
    video.preload = poster ? "none" : "metadata";
    if (poster) video.poster = poster;
    video.setAttribute("aria-label", title(job));
    video.src = videoUrl(job.id);
    screen.append(video);
  } else if (poster) {
    const image = new Image();
    image.alt = "";
    image.decoding = "async";
    image.src = poster;
    screen.append(image);
  }
}

function emptyScreen(card, isForced) {
  const video = card.node.querySelector("video");
  if (video && !video.paused && !isForced) return; // it plays on while its owner scrolls
  if (video) { video.removeAttribute("src"); video.load(); }
  card.part("screen").replaceChildren();
}

function show(group) {
  shown = group;
  for (const { node, job } of cards.values()) node.hidden = shown !== "all" && shown !== groupOf(job);
  count();
}

function count() {
  const counts = { all: cards.size };
  for (const { job } of cards.values()) counts[groupOf(job)] = (counts[groupOf(job)] || 0) + 1;
  for (const button of document.getElementById("filters").children) {
    button.textContent = `${button.dataset.name} ${counts[button.dataset.group] || 0}`;
    button.setAttribute("aria-pressed", String(button.dataset.group === shown));
  }
  document.getElementById("empty").hidden = cards.size > 0;
}
