// The form: pictures, a prompt, and only what the chosen model takes. What is sent has an id, so a double click pays once.

import { Refused, create, newId } from "./api.js";

const MOST_PICTURES = 100; // in one go
const MOST_BYTES = 20_000_000;
const by = (id) => document.getElementById(id);
const [form, input, chosen, prompt, problem, make] = ["composer", "pictures", "chosen", "prompt", "problem", "make"].map(by);

let offer; // what the server says can be made
let pictures = []; // { file, url }
let sending = false;

export function start(options) {
  offer = options;
  for (const command of options.commands) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = command;
    button.addEventListener("click", () => insert(`[${command}]`));
    by("commands").append(button);
  }
  by("camera").open = matchMedia("(min-width: 52rem)").matches;
  input.addEventListener("change", () => { take(input.files); input.value = ""; });
  for (const kind of ["dragover", "dragleave", "drop"]) addEventListener(kind, dragged);
  addEventListener("paste", (event) => { if (event.clipboardData.files.length) take(event.clipboardData.files); });
  by("swap").addEventListener("click", () => { pictures.reverse(); showPictures(); });
  for (const each of document.querySelectorAll('input[name="pair"]')) each.addEventListener("change", showModels);
  by("model").addEventListener("change", showSizes);
  by("duration").addEventListener("change", showResolutions);
  by("resolution").addEventListener("change", showPrice);
  prompt.addEventListener("input", showCount);
  form.addEventListener("submit", (event) => { event.preventDefault(); send(); });
  form.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(); });
  addEventListener("beforeunload", (event) => { if (sending) event.preventDefault(); });
  showModels();
  showCount();
  if (input.files.length) take(input.files); // chosen while this was loading
}

// --- Pictures ---

function dragged(event) {
  if (!event.dataTransfer || !event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  by("drop").classList.toggle("over", event.type === "dragover");
  if (event.type === "drop") take(event.dataTransfer.files);
}

function take(files) {
  const refused = [];
  for (const file of files) {
    const rule = whyNot(file);
    if (rule) refused.push(`${file.name} ${rule}`);
    else pictures.push({ file, url: URL.createObjectURL(file) });
  }
  const more = refused.length > 3 ? `; and ${refused.length - 3} more` : "";
  complain(refused.slice(0, 3).join("; ") + more);
  showPictures();
}

function whyNot(file) {
  if (pictures.length >= MOST_PICTURES) return `is left out: ${MOST_PICTURES} pictures at most in one go`;
  if (/\.hei[cf]$/i.test(file.name)) return "is a HEIC: save it as a JPEG first";
  if (!/^image\/(jpeg|png|webp)$/.test(file.type)) return "is no JPEG, PNG or WebP picture";
  if (file.size === 0) return "is empty";
  return file.size >= MOST_BYTES ? "has 20 MB or more" : "";
}

function showPictures() {
  chosen.replaceChildren(...pictures.map(({ file, url }, at) => {
    const item = document.createElement("li");
    const image = new Image();
    image.src = url;
    image.alt = "";
    const name = document.createElement("span");
    name.title = file.name;
    const remove = document.createElement("button");
    remove.type = "button";
    remove.textContent = "×";
    remove.setAttribute("aria-label", `Remove ${file.name}`);
    remove.addEventListener("click", () => { URL.revokeObjectURL(url); pictures.splice(at, 1); showPictures(); input.focus(); });
    item.append(image, name, remove);
    return item;
  }));
  by("pair").hidden = pictures.length !== 2;
  showModels();
}

const isPair = () => pictures.length === 2 && form.elements.pair.value === "one";
const howMany = () => (isPair() ? 1 : pictures.length);

// --- What the model takes ---

function fill(select, values, label = (value) => value) {
  const before = select.value;
  select.replaceChildren(...values.map((value) => new Option(label(value), value)));
  if (values.map(String).includes(before)) select.value = before;
}

const model = () => offer.models.find((each) => each.slug === by("model").value);

function showModels() {
  fill(by("model"), offer.models.filter((each) => each.takes_last_frame === isPair()).map((each) => each.slug));
  for (const [at, name] of [...chosen.querySelectorAll("span")].entries()) {
    name.textContent = isPair() ? `${at ? "last" : "first"}: ${name.title}` : name.title;
  }
  showSizes();
}

function showSizes() {
  by("camera").hidden = !model().camera_commands;
  fill(by("duration"), Object.keys(model().sizes));
  showResolutions();
}

function showResolutions() {
  fill(by("resolution"), model().sizes[by("duration").value]);
  showPrice();
}

const dollars = (amount) => `$${amount.toFixed(2)}`;

function showPrice() {
  const count = howMany();
  make.disabled = sending || count === 0;
  if (!sending) make.textContent = count > 1 ? `Make ${count} videos` : "Make a video";
  const price = model().prices[`${by("duration").value}/${by("resolution").value}`];
  if (!price) { by("price").textContent = "No price is known for this."; return; }
  const [low, high] = price.map((each) => Number(each) * Math.max(1, count));
  const range = low === high ? dollars(low) : `${dollars(low)} to ${dollars(high)}`;
  by("price").textContent = `${range}${count > 1 ? ` for ${count}` : ""}${offer.as_of ? `, by the prices of ${offer.as_of}` : ""}`;
}

// --- The prompt ---

function insert(words) {
  const [from, to] = [prompt.selectionStart, prompt.selectionEnd];
  const space = from && !/\s$/.test(prompt.value.slice(0, from)) ? " " : "";
  prompt.setRangeText(`${space}${words} `, from, to, "end");
  prompt.focus();
  showCount();
}

const length = () => [...prompt.value].length;

function showCount() {
  by("count").textContent = `${length()} / ${offer.max_prompt}`;
  document.querySelector('label[for="prompt"]').classList.toggle("over", length() > offer.max_prompt);
}

// --- Sending ---

function complain(words) {
  problem.textContent = words;
  problem.hidden = !words;
}

function forms() {
  const common = [["model", by("model").value], ["duration", by("duration").value], ["resolution", by("resolution").value]];
  if (!by("optimizer").checked) common.push(["prompt_optimizer", "false"]);
  if (prompt.value) common.push(["prompt", prompt.value]);
  const frames = isPair()
    ? [[["first_frame_image", pictures[0]], ["last_frame_image", pictures[1]]]]
    : pictures.map((picture) => [["image", picture]]);
  return frames.map((pair) => ({ id: newId(), common, pair }));
}

function formData({ id, common, pair }) {
  const data = new FormData();
  data.append("id", id);
  for (const [name, value] of common) data.append(name, value);
  for (const [name, { file }] of pair) data.append(name, file);
  return data;
}

async function send() {
  if (sending || howMany() === 0) return;
  if (length() > offer.max_prompt) { complain(`The prompt has ${length()} characters; ${offer.max_prompt} at most.`); prompt.focus(); return; }
  sending = true;
  complain("");
  const waiting = forms();
  const total = waiting.length;
  try {
    while (waiting.length) {
      make.disabled = true;
      make.textContent = total > 1 ? `Sending ${total - waiting.length + 1} of ${total}…` : "Sending…";
      await patiently(() => create(formData(waiting[0])));
      for (const [, picture] of waiting.shift().pair) { URL.revokeObjectURL(picture.url); pictures = pictures.filter((each) => each !== picture); }
    }
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    complain(error.message[0].toUpperCase() + error.message.slice(1));
  } finally {
    sending = false;
    showPictures();
  }
}

// Sends again, under the same id, while the server is away or full: it makes one job of it.
async function patiently(act) {
  for (;;) {
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof Refused) || ![0, 503].includes(error.status)) throw error;
      complain(`${error.message} It is sent again in a moment.`);
      await new Promise((done) => setTimeout(done, 3000));
      complain("");
    }
  }
}
