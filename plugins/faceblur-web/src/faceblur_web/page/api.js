// Talk to the server: the token, the list of methods, one photo through one method.

const KEY = "faceblur-token";
const RETRIES = 30;

export class Denied extends Error {}

/** Take the token out of the address (#token=…), so that it stays in no history. */
export function takeToken() {
  const found = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!found) return;
  setToken(found);
  history.replaceState(null, "", location.pathname);
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
  for (let attempt = 0; ; attempt++) {
    const request = await post(`v1/anonymize?${query}`, file, signal, progress);
    if (request.status === 200) return result(request);
    if (request.status !== 503 || attempt === RETRIES) throw new Error(await message(request));
    progress("waiting for a free place");
    await pause(Number(request.getResponseHeader("Retry-After") || 1) * (0.75 + Math.random() / 2), signal);
  }
}

function post(url, file, signal, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", url);
    request.responseType = "blob";
    request.setRequestHeader("Content-Type", "application/octet-stream");
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => event.lengthComputable && progress(`uploading, ${Math.round((100 * event.loaded) / event.total)} %`);
    request.upload.onload = () => progress("looking for faces");
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
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => { clearTimeout(timer); reject(new DOMException("stopped", "AbortError")); }, { once: true });
  });
}
