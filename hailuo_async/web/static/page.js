// The page: wires the form, the list and the news of the server.

import * as api from "./api.js";
import * as composer from "./composer.js";
import * as jobs from "./jobs.js";

const by = (id) => document.getElementById(id);

function showStats(stats) {
  by("running").textContent = `${stats.running} of ${stats.limit}`;
  by("queued").textContent = stats.queued;
  by("spent").textContent = stats.spent === null ? "–" : `$${Number(stats.spent).toFixed(2)}`;
}

// The id of another try is kept until the server has it: a second click, or a lost answer, is the same job.
const tries = new Map();

async function retry(job, button) {
  const id = tries.get(job.id) || api.newId();
  tries.set(job.id, id);
  button.disabled = true;
  try {
    await api.retry(job.id, id);
    tries.delete(job.id);
  } catch (error) {
    say(error.message);
  } finally {
    button.disabled = false;
  }
}

let inDoubt = null;

function decide(job) {
  inDoubt = job;
  by("doubt-facts").textContent = [job.prompt || job.name, job.sent_at && `sent ${new Date(job.sent_at * 1000).toLocaleString()}`, job.error]
    .filter(Boolean).join(" · ");
  by("doubt-resubmit").disabled = !job.can_resubmit;
  by("doubt-task").value = "";
  by("doubt").returnValue = "";
  by("doubt").showModal();
}

by("doubt-wait").addEventListener("click", (event) => {
  if (!by("doubt-task").value.trim()) { event.preventDefault(); by("doubt-task").focus(); }
});

by("doubt").addEventListener("close", async () => {
  const action = by("doubt").returnValue;
  if (!action) return;
  try {
    await api.resolve(inDoubt.id, { action, task_id: by("doubt-task").value.trim() });
  } catch (error) {
    say(error.message);
  }
});

function say(words) {
  by("problem").textContent = words;
  by("problem").hidden = false;
}

async function start() {
  let options;
  while (!options) {
    options = await api.options().catch(() => null);
    by("offline").hidden = Boolean(options);
    if (!options) await new Promise((done) => setTimeout(done, 2000));
  }
  by("notice").textContent = options.notice;
  by("notice").hidden = !options.notice;
  composer.start(options);
  jobs.start({ retry, decide });
  api.watch(
    (news) => {
      by("offline").hidden = true;
      jobs.take(news.jobs, news.is_snapshot);
      showStats(news.stats);
    },
    (isOnLine) => { by("offline").hidden = isOnLine; },
  );
}

start();
