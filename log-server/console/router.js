// Addresses within the page: everything behind the # is a path with a query, so that every view can be linked to.

/**
 * @typedef {object} Place
 * @property {string[]} path decoded segments, such as ["topics", "orders"]
 * @property {URLSearchParams} query
 */

/**
 * The link to a place.
 * @param {string[]} path
 * @param {Record<string, string | number | null | undefined>} [query] empty parameters are left out
 */
export function link(path, query = {}) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") parameters.set(name, String(value));
  }
  const text = parameters.toString();
  return `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/**
 * What a link leads to. What cannot be decoded is taken as it stands.
 * @param {string} hash
 * @returns {Place}
 */
export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  return { path: path.split("/").filter(Boolean).map(decoded), query: new URLSearchParams(query) };
}

/**
 * Goes to a place.
 * @param {string} to a `link`
 * @param {{ replace?: boolean }} [options] `replace`: the place before it is not gone back to
 */
export function go(to, { replace = false } = {}) {
  if (to === location.hash) return;
  if (replace) {
    history.replaceState(null, "", to);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else location.hash = to;
}

function decoded(segment) {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}
