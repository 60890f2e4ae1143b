// Requests to the gateway. Every request has a deadline, and every outcome is an answer: what the server said, that it
// said nothing in time, or that it cannot be reached. Nothing here throws.

import { askForToken, credentials } from "/assets/access.js";

// How long a request may take, with its body, unless the caller says otherwise.
export const TIMEOUT_MS = 10_000;

// Sends a request. Options:
//   body        an object, sent as JSON, or a text or Blob, sent as it is with the Content-Type in `headers`
//   headers     further request headers
//   signal      an AbortSignal: the caller is not interested any more
//   timeout_ms  the deadline
//   quiet       do not ask the user for a token; for what is read repeatedly
// Returns:
//   ok, status  as of fetch; the status is 0 if there was no answer
//   headers     the Headers of the answer
//   body        the answer's JSON, or null
//   error       what went wrong, in the server's words if it has any, else in ours; null if ok
//   fields      the problems of single fields, by name
//   code        the server's stable name of the error; ours are no_answer, timed_out and aborted
//   uncertain   it was a change, and nobody knows whether it was done
export async function call(method, path, options = {}) {
  for (;;) {
    const result = await send(method, path, options);
    const isRefused = result.status === 401 || result.status === 403;
    if (!isRefused || options.quiet || !(await askForToken(result.error))) {
      return result;
    }
  }
}

async function send(method, path, { body, headers = {}, signal, timeout_ms = TIMEOUT_MS }) {
  const isChange = method !== "GET" && method !== "HEAD";
  if (signal?.aborted) {
    return failure("aborted", "This was cancelled.", false);
  }
  const deadline = new AbortController();
  const cancel = () => deadline.abort();
  const timer = setTimeout(cancel, timeout_ms);
  signal?.addEventListener("abort", cancel);
  const request = { method, headers: { ...credentials(), ...headers }, signal: deadline.signal, cache: "no-store" };
  if (body !== undefined) {
    const isRaw = typeof body === "string" || body instanceof Blob;
    request.headers = { "Content-Type": "application/json", ...request.headers };
    request.body = isRaw ? body : JSON.stringify(body);
  }
  try {
    const response = await fetch(path, request);
    return understood(response, method === "HEAD" ? "" : await response.text(), isChange);
  } catch {
    if (signal?.aborted) {
      return failure("aborted", "This was cancelled.", isChange);
    }
    return deadline.signal.aborted
      ? failure("timed_out", `The gateway has not answered within ${timeout_ms / 1000} seconds.`, isChange)
      : failure("no_answer", "The gateway cannot be reached.", isChange);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", cancel);
  }
}

function failure(code, error, uncertain) {
  return { ok: false, status: 0, headers: new Headers(), body: null, error, fields: {}, code, uncertain };
}

function understood(response, text, isChange) {
  const { ok, status, headers } = response;
  const body = parsed(text);
  const common = { ok, status, headers, body };
  if (ok) {
    return { ...common, error: null, fields: {}, code: null, uncertain: false };
  }
  return {
    ...common,
    // Further services may answer in the form of RFC 9457.
    error: sentence(body?.error ?? body?.detail ?? body?.title ?? `The answer was ${status}, without a reason.`),
    fields: body?.fields ?? {},
    code: body?.code ?? null,
    uncertain: isChange && (status === 502 || status === 503 || status === 504),
  };
}

// Whether trying again can help.
export const canHelp = ({ status }) => status === 0 || status === 408 || status === 429 || status >= 500;

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

// A text with a capital at its beginning and a stop at its end.
function sentence(text) {
  const whole = String(text);
  return whole.charAt(0).toUpperCase() + whole.slice(1) + (/[.!?…]$/.test(whole) ? "" : ".");
}
