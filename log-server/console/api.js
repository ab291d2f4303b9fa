// The broker's HTTP API: requests with a deadline, and errors that say what failed.

const ROOT = "api/v1";
const TIMEOUT_MS = 10_000;

/** A request that was not answered as it should be. `status` is 0 when there was no answer at all. */
export class ApiError extends Error {
  /**
   * @param {string} message
   * @param {number} status
   */
  constructor(message, status) {
    super(message);
    this.name = "ApiError";
    this.status = status;
  }
}

/** A number that JavaScript would change, as the producer wrote it. */
export class ExactNumber {
  /** @param {string} source */
  constructor(source) {
    this.source = source;
  }
}

/**
 * Joins path segments and a query to the address of a resource; empty parameters are left out.
 * @param {string[]} segments
 * @param {Record<string, string | number | null | undefined>} [query]
 */
export function address(segments, query = {}) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") parameters.set(name, String(value));
  }
  const text = parameters.toString();
  return `${ROOT}/${segments.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/**
 * GET, as JSON.
 * @param {string} path of `address`
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 * @throws {ApiError}
 */
export async function get(path, signal) {
  return parse(await answer(path, {}, signal), JSON.parse);
}

/**
 * GET of records: numbers that a double cannot hold stay as they were written.
 * @param {string} path
 * @param {AbortSignal} [signal]
 * @throws {ApiError}
 */
export async function getRecords(path, signal) {
  return parse(await answer(path, {}, signal), parseExactly);
}

/**
 * POST of JSON, answered by JSON.
 * @param {string} path
 * @param {unknown} body
 * @throws {ApiError}
 */
export async function post(path, body) {
  const headers = { "content-type": "application/json" };
  return parse(await answer(path, { method: "POST", headers, body: JSON.stringify(body) }), JSON.parse);
}

/**
 * JSON in which every number that would come out differently is an `ExactNumber`.
 * @param {string} text
 */
export function parseExactly(text) {
  return JSON.parse(text, (_key, value, context) =>
    typeof value === "number" && context?.source !== undefined && context.source !== String(value)
      ? new ExactNumber(context.source)
      : value,
  );
}

async function answer(path, options, signal) {
  const deadline = AbortSignal.timeout(TIMEOUT_MS);
  const either = signal ? AbortSignal.any([signal, deadline]) : deadline;
  let response;
  let text;
  try {
    response = await fetch(path, { ...options, signal: either, cache: "no-store" });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    const reason = deadline.aborted ? `no answer within ${TIMEOUT_MS / 1000} s` : "the broker cannot be reached";
    throw new ApiError(reason, 0);
  }
  if (!response.ok) throw new ApiError(reasonIn(text) ?? `the broker answered ${response.status}`, response.status);
  return text;
}

function parse(text, by) {
  try {
    return by(text);
  } catch {
    throw new ApiError("the answer is not JSON", 0);
  }
}

function reasonIn(text) {
  try {
    const reason = JSON.parse(text).error;
    return typeof reason === "string" ? reason : null;
  } catch {
    return null;
  }
}
