// Talk to the server: the token, the list of methods, one photo or video through one method.

const KEY = "faceblur-token";
const RETRIES = 30;
const ASK_AGAIN = 0.7; // seconds between questions about a job
const MOST_MISSED = 20; // answers in a row

export class Denied extends Error {}

/** Take the token out of the address (#token=…), so that it stays in no history; return whether there is one. */
export function takeToken() {
  const found = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!found) return false;
  setToken(found);
  history.replaceState(null, "", location.pathname);
  return true;
}

export const setToken = (token) => sessionStorage.setItem(KEY, token);

function authorization() {
  const token = sessionStorage.getItem(KEY);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

export async function methods() {
  const response = await fetch("v1/methods", { headers: authorization() });
  const said = await response.json();
  if (response.status === 401) throw new Denied(said.error);
  if (!response.ok) throw new Error(said.error);
  return said;
}

/** Return {blob, faces, share, ms}; `progress` is told what goes on. While the server is busy it is asked again. */
export async function anonymize(file, method, settings, signal, progress) {
  const query = new URLSearchParams([["method", method], ...settings.map((item) => ["set", item])]);
  return result(await post(`v1/anonymize?${query}`, file, signal, progress, "looking for faces"));
}

/** The same for a video, without what is `dropped`: {blob, faces, share, ms, notes}; `progress` is told the share that is done and the seconds left, too. */
export async function anonymizeVideo(file, { method, settings, dropped }, signal, progress) {
  const query = new URLSearchParams([["method", method], ...settings.map((item) => ["set", item]), ...dropped.map((name) => [name, "false"])]);
  const sent = await post(`v1/jobs?${query}`, file, signal, progress, "waiting");
  const url = `v1/jobs/${JSON.parse(await sent.response.text()).id}`;
  running.add(url);
  try {
    const { result: made } = await finished(url, signal, progress);
    progress("fetching", 1);
    return { blob: await fetched(`${url}/result`, signal), faces: made.tracks, share: made.masked_share, ms: null, notes: made.notes };
  } finally {
    cancel(url); // the server has nothing to keep it for, however this ended
    running.delete(url);
  }
}

const running = new Set(); // addresses of jobs
const cancel = (url) => fetch(url, { method: "DELETE", headers: authorization(), keepalive: true }).catch(() => {});
addEventListener("pagehide", () => running.forEach(cancel));

/** Return the result of a job; if the connection breaks, it is asked for once more. */
async function fetched(url, signal) {
  const ask = () => send("GET", url, null, signal);
  const request = await ask().catch((error) => (signal.aborted ? Promise.reject(error) : ask()));
  if (request.status !== 200) throw new Error(await message(request));
  return request.response;
}

/** Ask for a job until it is done; return what is said of it then. */
async function finished(url, signal, progress) {
  for (let missed = 0; ; ) {
    await pause(ASK_AGAIN, signal);
    let said;
    try {
      const response = await fetch(url, { headers: authorization(), signal });
      said = await response.json();
      if (!response.ok && response.status !== 503) throw Object.assign(new Error(said.error), { final: true });
      missed = 0;
    } catch (error) {
      if (error.final || error.name === "AbortError" || ++missed > MOST_MISSED) throw error;
      continue; // the network may come back
    }
    if (said.state === "done") return said;
    if (said.state === "failed") throw new Error(said.error);
    if (said.state === "waiting") progress(said.ahead ? `waiting, ${said.ahead} before it` : "waiting");
    if (said.state === "working") progress("hiding faces", said.progress, said.seconds_left);
  }
}

/** Send a file, again and again while the server is busy; return the request. */
async function post(url, file, signal, progress, then) {
  for (let attempt = 0; ; attempt++) {
    const request = await send("POST", url, file, signal, progress, then);
    if (request.status < 300) return request;
    if (request.status !== 503 || attempt === RETRIES) throw new Error(await message(request));
    progress("waiting for a free place");
    await pause(Number(request.getResponseHeader("Retry-After") || 1) * (0.75 + Math.random() / 2), signal);
  }
}

function send(verb, url, file, signal, progress, then) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(verb, url);
    request.responseType = "blob";
    if (file) request.setRequestHeader("Content-Type", "application/octet-stream");
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    if (file) request.upload.onprogress = (event) => event.lengthComputable && progress(`uploading, ${Math.round((100 * event.loaded) / event.total)} %`);
    if (file) request.upload.onload = () => progress(then);
    request.onload = () => resolve(request);
    request.onerror = () => reject(new Error("the server cannot be reached"));
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    signal.aborted ? request.onabort() : request.send(file);
  });
}

function result(request) {
  const faces = request.getResponseHeader("Faceblur-Faces");
  const total = /total;dur=([\d.]+)/.exec(request.getResponseHeader("Server-Timing") || "");
  return {
    blob: request.response,
    faces: faces === null ? null : Number(faces),
    share: Number(request.getResponseHeader("Faceblur-Masked-Share")),
    ms: total ? Number(total[1]) : null,
  };
}

async function message(request) {
  try {
    return JSON.parse(await request.response.text()).error;
  } catch {
    return `the server answered ${request.status}`;
  }
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(new DOMException("stopped", "AbortError"));
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => { clearTimeout(timer); reject(new DOMException("stopped", "AbortError")); }, { once: true });
  });
}
