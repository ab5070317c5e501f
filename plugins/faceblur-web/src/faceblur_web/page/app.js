// The page: photos and videos in, methods chosen, results side by side, downloads.

import { anonymize, anonymizeVideo, Denied, methods, setToken, takeToken } from "./api.js";
import { slider } from "./slider.js";
import { zip } from "./zip.js";

const AT_A_TIME = 2;
const ZIP_BYTES = 2e9;
const FAVOURITES = ["yunet", "mediapipe", "haar"];
const ENDINGS = { "image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp", "image/tiff": ".tif", "image/bmp": ".bmp", "image/avif": ".avif", "image/gif": ".gif", "video/mp4": ".mp4", "video/quicktime": ".mov", "video/x-matroska": ".mkv", "video/webm": ".webm", "video/x-msvideo": ".avi" };
const VIDEO = /\.(mp4|m4v|mov|qt|mkv|webm|avi|wmv|asf|flv|f4v|mpe?g|m2v|vob|mod|tod|ogv|mxf|rm|rmvb|3gp|3g2|m?ts|m2ts|dv|y4m|nut|divx)$/i;
const $ = (id) => document.getElementById(id);

let offer = null; // what the server offers
let photos = []; // {file, url, video: whether it is one, results: Map of key -> result}
let stopper = null; // while work goes on

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function say(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

// --- the server's offer

async function open() {
  try {
    offer = await methods();
  } catch (error) {
    if (!(error instanceof Denied)) throw error;
    const again = !$("unlock").hidden;
    $("unlock").hidden = false;
    $("token-hint").textContent = again ? "That is not the token." : $("token-hint").textContent;
    $("token-hint").classList.toggle("bad", again);
    $("token").focus();
    return;
  }
  $("unlock").hidden = true;
  $("work").hidden = false;
  $("limits").textContent = `JPEG, PNG, WebP, TIFF, AVIF, GIF or BMP, up to ${Math.round(offer.max_bytes / 1e6)} MB and ${Math.round(offer.max_pixels / 1e6)} megapixels each; videos up to ${Math.round(offer.max_video_bytes / 1e6)} MB and ${Math.round(offer.max_video_seconds / 60)} minutes`;
  showMethods();
  showObfuscators();
}

function showMethods() {
  const usable = offer.methods.filter((item) => item.usable).map((item) => item.name);
  const first = FAVOURITES.find((name) => usable.includes(name)) ?? usable[0];
  const rank = (item) => [item.kind !== "detector", FAVOURITES.includes(item.name) ? FAVOURITES.indexOf(item.name) : FAVOURITES.length].map(Number);
  for (const item of [...offer.methods].sort((a, b) => rank(a)[0] - rank(b)[0] || rank(a)[1] - rank(b)[1])) {
    if (item.kind === "obfuscator") continue;
    const box = element("input", { type: "checkbox", name: "method", value: item.name, disabled: !item.usable, checked: item.name === first });
    box.dataset.kind = item.kind;
    const summary = item.usable ? item.summary : `Not usable here: ${item.why}`;
    const list = item.kind === "file" ? $("files-methods") : $("methods");
    list.append(element("label", { className: "method" }, box, element("b", { textContent: item.name }), element("small", { textContent: summary })));
  }
  $("more").hidden = !$("files-methods").children.length;
}

function showObfuscators() {
  const groups = { safe: element("optgroup", { label: "Keeps faces secret" }), weak: element("optgroup", { label: "For comparison: can be reversed" }) };
  for (const item of offer.methods) {
    if (item.kind !== "obfuscator") continue;
    const group = item.summary.includes("can be reversed") ? groups.weak : groups.safe;
    group.append(element("option", { value: item.name, textContent: item.name, selected: item.name === "blur" }));
  }
  $("obfuscator").append(groups.safe, groups.weak);
  describeObfuscator();
}

function describeObfuscator() {
  $("obfuscator-hint").textContent = offer.methods.find((item) => item.kind === "obfuscator" && item.name === $("obfuscator").value)?.summary ?? "";
}

/** Return what is chosen: [{method, settings, key}]. */
function chosen() {
  const grow = Number($("grow").value).toFixed(1);
  return [...document.querySelectorAll("[name=method]:checked")].map((box) => {
    const detector = box.dataset.kind === "detector";
    const method = detector ? `${box.value}+${$("obfuscator").value}` : box.value;
    const settings = detector && grow !== "1.4" ? [`mask.grow=${grow}`] : [];
    return { method, settings, key: [method, ...settings].join(" ") };
  });
}

/** Return the same for one file, with what is `dropped` of it: of a video sound or subtitles may be left out. */
function forFile(wanted, photo) {
  const dropped = photo.video ? ["audio", "subtitles"].filter((name) => !$(name).checked) : [];
  return wanted.map((want) => ({ ...want, dropped, key: [want.key, ...dropped.map((name) => `no-${name}`)].join(" ") }));
}

// --- photos

function add(files) {
  const refused = [];
  for (const file of files) {
    const video = file.type.startsWith("video/") || VIDEO.test(file.name);
    if (file.size > (video ? offer.max_video_bytes : offer.max_bytes)) refused.push(file.name);
    else photos.push({ file, video, url: URL.createObjectURL(file), results: new Map() });
  }
  showPhotos();
  if (refused.length) say(`Too large, left out: ${refused.join(", ")}`, true);
  else if (photos.length) say(`${things(photos)} ready.`);
}

function showPhotos() {
  $("photos").replaceChildren(...photos.map((photo) => {
    const look = { src: photo.url, title: photo.file.name };
    const thumb = photo.video
      ? element("video", { ...look, muted: true, preload: "metadata", tabIndex: -1, ariaLabel: photo.file.name })
      : element("img", { ...look, alt: photo.file.name });
    thumb.addEventListener("error", () => thumb.replaceWith(element("span", { className: "blank", textContent: photo.file.name.split(".").pop(), title: photo.file.name })));
    const away = element("button", { type: "button", textContent: "×", title: "Remove", ariaLabel: `Remove ${photo.file.name}`, disabled: !!stopper });
    away.addEventListener("click", () => remove(photo));
    return element("li", {}, thumb, away);
  }));
  refresh();
}

function remove(photo) {
  forget(photo);
  photos = photos.filter((other) => other !== photo);
  showPhotos();
  say(photos.length ? `${things(photos)} ready.` : "");
  $("files").focus();
}

function forget(photo) {
  URL.revokeObjectURL(photo.url);
  photo.article?.remove();
  for (const result of photo.results.values()) URL.revokeObjectURL(result.url);
}

function refresh() {
  const working = !!stopper;
  $("of-videos").hidden = !photos.some((photo) => photo.video);
  $("start").disabled = working || !photos.length || !chosen().length;
  $("start").textContent = photos.length > 1 ? `Hide faces in ${things(photos)}` : "Hide faces";
  $("files").disabled = working;
  $("stop").hidden = !working;
  $("clear").hidden = working || !photos.length;
  const ready = shown().length;
  $("download").hidden = working || !ready;
  $("download").textContent = ready > 1 ? `Download all ${ready} (zip)` : "Download all (zip)";
}

// --- work

async function start() {
  const tasks = [];
  for (const photo of photos) {
    const wanted = forFile(chosen(), photo);
    layOut(photo, wanted);
    for (const want of wanted) if (!photo.results.has(want.key)) tasks.push([photo, want]);
  }
  stopper = new AbortController();
  showPhotos();
  $("progress").hidden = false;
  const sum = { done: 0, failed: 0, total: tasks.length, began: performance.now(), parts: new Map() };
  step(sum);
  $("actions").scrollIntoView();
  const queue = tasks[Symbol.iterator]();
  await Promise.all(Array.from({ length: AT_A_TIME }, () => work(queue, sum)));
  const stopped = stopper.signal.aborted;
  for (const [photo, want] of queue) fail(photo.figures.get(want.key), want, "stopped");
  stopper = null;
  $("progress").hidden = true;
  showPhotos();
  say(summary(sum, stopped), sum.failed > 0);
}

async function work(queue, sum) {
  for (const [photo, want] of queue) {
    if (stopper.signal.aborted) return;
    const figure = photo.figures.get(want.key);
    try {
      const result = await (photo.video ? hideInVideo(photo, want, figure, sum) : anonymize(photo.file, want.method, want.settings, stopper.signal, (text) => wait(figure, text)));
      photo.results.set(want.key, { ...result, url: URL.createObjectURL(result.blob) });
      show(photo, want);
      sum.done++;
    } catch (error) {
      const stopped = error.name === "AbortError";
      fail(figure, want, stopped ? "stopped" : error.message);
      if (stopped && stopper.signal.aborted) return;
      stopped ? sum.total-- : sum.failed++; // one video was cancelled, or something went wrong
    }
    sum.parts.delete(figure);
    step(sum);
  }
}

/** Run one video; its figure shows how far it is and a button that cancels it alone. */
async function hideInVideo(photo, want, figure, sum) {
  const own = new AbortController();
  const all = stopper.signal;
  const both = () => own.abort();
  all.addEventListener("abort", both);
  const bar = element("progress", { max: 1, ariaLabel: `${photo.file.name}, ${want.key}` });
  const cancel = element("button", { type: "button", textContent: "Cancel", ariaLabel: `Cancel ${photo.file.name}, ${want.key}` });
  cancel.addEventListener("click", both);
  const text = element("span", { textContent: "waiting" });
  const place = figure.querySelector(".blank-result");
  place.classList.remove("waiting"); // it would breathe, and so be hard to read
  place.replaceChildren(element("div", { className: "job" }, text, bar, cancel));
  try {
    return await anonymizeVideo(photo.file, want, own.signal, (what, share, left) => {
      text.textContent = share ? `${what}, ${Math.round(100 * share)} %${left > 2 ? `, ${duration(left)} left` : ""}` : what;
      if (!share) return;
      bar.value = share;
      sum.parts.set(figure, { share, left });
      step(sum);
    });
  } finally {
    all.removeEventListener("abort", both);
  }
}

function step({ done, failed, total, began, parts }) {
  const ended = done + failed;
  const begun = [...parts.values()].reduce((shares, part) => shares + part.share, 0);
  $("progress").max = total || 1;
  $("progress").value = ended + begun;
  const spent = (performance.now() - began) / 1000;
  const guess = ended && total > ended ? (spent / (ended + begun)) * (total - ended - begun) : 0;
  const left = total === 1 ? (parts.values().next().value?.left ?? 0) : guess; // of a lone video the server knows better
  const share = parts.size ? `, ${10 * Math.floor((10 * (ended + begun)) / total)} %` : ""; // in tens, for it is read aloud
  say(`${ended} of ${total} done${share}${left > 3 ? `, about ${duration(left)} left` : ""}`);
}

/** Return seconds as words; large ones are rounded, lest a screen reader is told of every one. */
function duration(seconds) {
  if (seconds > 90) return `${Math.round(seconds / 60)} min`;
  return `${seconds > 20 ? 10 * Math.ceil(seconds / 10) : Math.ceil(seconds)} s`;
}

function summary({ done, failed, total }, stopped) {
  if (stopped) return `Stopped; ${done} of ${total} done.`;
  if (!total) return "Everything was done before.";
  const faces = photos.reduce((sum, photo) => sum + Math.max(0, ...[...photo.results.values()].map((result) => result.faces ?? 0)), 0);
  const found = faces ? `, up to ${count(faces, "face")} found` : "";
  return failed ? `${done} of ${total} done, ${failed} failed.` : `Done: ${things(photos)}${found}.`;
}

const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

/** Return "2 photos and 1 video". */
function things(all) {
  const videos = all.filter((photo) => photo.video).length;
  return [[all.length - videos, "photo"], [videos, "video"]].filter(([number]) => number).map(([number, word]) => count(number, word)).join(" and ");
}

// --- results

/** Make room for the results of a photo, keeping those that are there. */
function layOut(photo, wanted) {
  const known = photo.figures ?? new Map();
  photo.figures = new Map(wanted.map((want) => [want.key, known.get(want.key) ?? element("figure", { className: "result" })]));
  const figures = [...photo.figures.values()];
  for (const figure of figures) figure.classList.toggle("only", figures.length === 1);
  for (const want of wanted) {
    if (!photo.results.has(want.key)) blank(photo.figures.get(want.key), want);
    else if (!known.has(want.key)) show(photo, want); // chosen before the last time
  }
  const grid = element("div", { className: "figures" }, ...figures);
  if (photo.article) {
    photo.article.querySelector(".figures").replaceWith(grid);
  } else {
    photo.article = element("article", { className: "photo" }, element("header", {}, element("h2", { textContent: photo.file.name })), grid);
    $("results").append(photo.article);
  }
}

/** Return a method's name so that a narrow column breaks it at its signs. */
const breakable = (key) => key.split(/(?<=[+|])/).flatMap((part) => [part, element("wbr")]);

function blank(figure, want) {
  figure.setAttribute("aria-busy", "true");
  figure.replaceChildren(
    element("div", { className: "blank-result waiting" }, element("span", { textContent: "waiting" })),
    element("figcaption", {}, element("b", {}, ...breakable(want.key))),
  );
}

function wait(figure, text) {
  const place = figure.querySelector(".waiting span");
  if (place) place.textContent = text;
}

function fail(figure, want, text) {
  figure.removeAttribute("aria-busy");
  figure.replaceChildren(
    element("div", { className: `blank-result ${text === "stopped" ? "" : "bad"}`, textContent: text }),
    element("figcaption", {}, element("b", {}, ...breakable(want.key))),
  );
}

function show(photo, want) {
  const figure = photo.figures.get(want.key);
  const result = photo.results.get(want.key);
  figure.removeAttribute("aria-busy");
  const picture = photo.video ? player(photo, result, want) : view(photo, result, want);
  const link = element("a", { href: result.url, download: fileName(photo, want, result), textContent: "Download", ariaLabel: `Download ${photo.file.name}, ${want.key}` });
  const enlarge = element("button", { type: "button", textContent: "Enlarge", ariaLabel: `Enlarge ${photo.file.name}, ${want.key}` });
  enlarge.addEventListener("click", () => {
    $("large-content").replaceChildren(view(photo, result, want));
    $("large").showModal();
  });
  const caption = element("figcaption", {},
    element("b", {}, ...breakable(want.key)),
    element("span", { className: "facts", textContent: facts(result) }),
    element("span", { className: "tools" }, ...(photo.video ? [link] : [enlarge, link])),
  );
  if (result.notes?.length) caption.append(element("ul", { className: "notes" }, ...result.notes.map((note) => element("li", { textContent: note }))));
  if (result.share === 0) caption.append(element("p", { className: "warn", textContent: `No face found: the ${photo.video ? "video" : "photo"} is as it was, without its metadata.` }));
  figure.replaceChildren(picture, caption);
}

/** Return before and after, or words where the browser cannot show such a file. */
function view(photo, result, want) {
  return orWords(slider(photo.url, result.url, want.key));
}

function player(photo, result, want) {
  return orWords(element("video", { className: "watch", src: result.url, controls: true, preload: "metadata", ariaLabel: `Anonymized: ${photo.file.name}, ${want.key}` }));
}

function orWords(picture) {
  picture.addEventListener("error", () => {
    picture.replaceWith(element("div", { className: "blank-result", textContent: "The browser cannot show this kind of file. Download it to look at it." }));
  }, { capture: true, once: true });
  return picture;
}

function facts({ faces, share, ms, notes }) {
  const parts = [faces === null ? `${(100 * share).toFixed(1)} % hidden` : `${count(faces, "face")}${notes ? " followed" : ""}`];
  if (ms !== null) parts.push(ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);
  return parts.join(" · ");
}

// --- downloads

const plain = (text) => text.replace(/[^\w.=-]+/g, "-");
const stem = (photo) => photo.file.name.replace(/\.[^.]*$/, "") || "photo";
const ending = (result) => ENDINGS[result.blob.type] ?? "";
const fileName = (photo, want, result) => `${stem(photo)}-${plain(want.key)}${ending(result)}`;

/** Return [photo, key, result] of every result that is on the page. */
function shown() {
  return photos.flatMap((photo) => [...(photo.figures?.keys() ?? [])].filter((key) => photo.results.has(key)).map((key) => [photo, key, photo.results.get(key)]));
}

async function downloadAll() {
  const all = shown();
  const several = new Set(all.map(([, key]) => key)).size > 1;
  const taken = new Set();
  const files = all.map(([photo, key, result]) => {
    const folder = several ? `${plain(key)}/` : "";
    let name = `${folder}${stem(photo)}${ending(result)}`;
    for (let number = 2; taken.has(name.toLowerCase()); number++) name = `${folder}${stem(photo)} (${number})${ending(result)}`;
    taken.add(name.toLowerCase());
    return { name, blob: result.blob };
  });
  if (files.reduce((sum, { blob }) => sum + blob.size, 0) > ZIP_BYTES) return say("That is too much for one zip file; download them one by one.", true);
  const url = URL.createObjectURL(await zip(files));
  element("a", { href: url, download: "faceblur.zip" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
  say(`${count(files.length, "file")} in faceblur.zip`);
}

// --- events

$("files").addEventListener("change", (event) => { add(event.target.files); event.target.value = ""; });
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => { event.preventDefault(); $("drop").classList.add("over"); });
}
document.addEventListener("dragleave", (event) => event.relatedTarget ?? $("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  if (offer && !stopper) add(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => offer && !stopper && event.clipboardData.files.length && add(event.clipboardData.files));
$("work").addEventListener("submit", (event) => { event.preventDefault(); start(); });
$("work").addEventListener("change", refresh);
$("stop").addEventListener("click", () => stopper?.abort());
$("download").addEventListener("click", downloadAll);
$("clear").addEventListener("click", () => { photos.forEach(forget); photos = []; showPhotos(); say(""); $("files").focus(); });
$("obfuscator").addEventListener("change", describeObfuscator);
$("grow").addEventListener("input", () => { $("grow-value").textContent = Number($("grow").value).toFixed(1); });
$("large").addEventListener("click", (event) => event.target === $("large") && $("large").close());
$("unlock").addEventListener("submit", (event) => { event.preventDefault(); setToken($("token").value.trim()); open(); });

addEventListener("hashchange", () => takeToken() && !$("unlock").hidden && open()); // the address, opened where the page is open

takeToken();
open().catch((error) => { $("work").hidden = false; say(error.message, true); });
