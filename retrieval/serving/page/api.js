// The service's routes. What it refuses is an `ApiError` with its own sentence.

import { storedKey } from "./key.js";

export class ApiError extends Error {
  // `kind`: key, busy, closing, refused, or down where nobody answered.
  constructor(kind, message, { param = null, seconds = 0 } = {}) {
    super(message);
    this.kind = kind;
    this.param = param;
    this.seconds = seconds;
  }
}

const KINDS = { 401: "key", 429: "busy", 503: "closing" };

export const health = (signal) => ask("health", undefined, signal);
export const search = (body, signal) => ask("v1/search", body, signal);
export const highlights = (body, signal) => ask("v1/highlights", body, signal);

async function ask(route, body, signal) {
  const headers = {};
  const key = storedKey();
  if (key) headers.authorization = `Bearer ${key}`;
  if (body) headers["content-type"] = "application/json";
  let response;
  let answer;
  try {
    response = await fetch(route, {
      method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal,
    });
    answer = await response.json();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError("down", "Is it running, and is the network there?");
  }
  if (response.ok) return answer;
  throw new ApiError(KINDS[response.status] ?? "refused", answer.error.message, {
    param: answer.error.param,
    seconds: Number(response.headers.get("retry-after")),
  });
}
