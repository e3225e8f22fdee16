// The client of the calls API. It sends the token if there is one.

const TOKEN_KEY = "ADMIN_TOKEN";
const ANSWER_MS = 15_000;
// Longer than the 15 s after which the dispatcher sends a comment on an idle stream.
const STREAM_SILENCE_MS = 40_000;
// Maximum length of an event. An event contains a transcript or a tool's output.
const MOST_WAITING_CHARACTERS = 4_000_000;

/** A request that was refused; `status` is the HTTP status, or 0 if the dispatcher did not answer. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN_KEY),
  keep: (value) => sessionStorage.setItem(TOKEN_KEY, value),
  forget: () => sessionStorage.removeItem(TOKEN_KEY),
};

export const pathOf = (uuid) => `calls/${encodeURIComponent(uuid)}`;

async function request(path, method, body, signal) {
  const headers = {};
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
      redirect: "error",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The dispatcher does not answer");
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  throw new Refused(response.status, String(answer.error ?? response.statusText));
}

/** Returns the JSON answer of a request. Throws Refused. */
export async function ask(path, method = "GET", body = undefined) {
  try {
    const response = await request(path, method, body, AbortSignal.timeout(ANSWER_MS));
    return await response.json();
  } catch (error) {
    throw error instanceof Refused ? error : new Refused(0, "The dispatcher does not answer");
  }
}

/** Returns the dispatcher's problems that `/readyz` names; none if it does not answer. */
export async function problems() {
  try {
    const response = await fetch("readyz", { signal: AbortSignal.timeout(ANSWER_MS), cache: "no-store", redirect: "error" });
    const [, ...lines] = (await response.text()).trim().split("\n");
    return lines;
  } catch {
    return [];
  }
}

/** Returns a list's first page, and what its header says of the rest. Throws Refused. */
export async function askList(path) {
  try {
    const response = await request(path, "GET", undefined, AbortSignal.timeout(ANSWER_MS));
    const entries = await response.json();
    const told = (name, otherwise) => Number(response.headers.get(name) ?? otherwise);
    return {
      entries,
      live: told("Calls-Live", entries.length),
      found: told("Calls-Found", entries.length),
      kept: told("Call-Records-Kept-Seconds", 0),
      hasMore: response.headers.has("Link"),
    };
  } catch (error) {
    throw error instanceof Refused ? error : new Refused(0, "The dispatcher does not answer");
  }
}

/**
 * Yields the live events of a call until the stream ends or `signal` is aborted.
 * The first event is `{type: "watching"}`; no event after it is missed. This is not an EventSource, because an
 * EventSource cannot send a token.
 */
export async function* events(uuid, signal) {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), STREAM_SILENCE_MS);
  const stop = () => silence.abort();
  signal.addEventListener("abort", stop);
  try {
    const response = await request(`${pathOf(uuid)}/events`, "GET", undefined, silence.signal);
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let waiting = "";
    yield { type: "watching" };
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(stop, STREAM_SILENCE_MS);
      waiting += decoder.decode(value, { stream: true });
      const blocks = waiting.split("\n\n");
      waiting = blocks.pop();
      if (waiting.length > MOST_WAITING_CHARACTERS) throw new Refused(0, "An event was too long");
      for (const block of blocks) {
        const data = block.split("\n").find((line) => line.startsWith("data: "));
        if (data) yield JSON.parse(data.slice(6));
      }
    }
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
    silence.abort();
  }
}
