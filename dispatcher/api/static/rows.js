// Lists whose rows stay: a call keeps its row element, so that focus and reading position are kept.

import { put } from "./text.js";

/** Gives a list these rows in this order, without touching rows that are already in place. */
export function fill(list, rows, keys, create, watched = undefined) {
  const wanted = new Set(keys);
  for (const [key, row] of rows) {
    if (wanted.has(key)) continue;
    watched?.remove(row);
    row.remove();
    rows.delete(key);
  }
  let place = list.firstElementChild;
  for (const key of keys) {
    let row = rows.get(key);
    if (row && row === place) {
      place = place.nextElementSibling;
      continue;
    }
    if (!row) {
      row = create(key);
      rows.set(key, row);
      watched?.add(row, key);
    }
    list.insertBefore(row, place);
  }
}

/** Shows a state in a row's badge. */
export function badge(row, value, shown) {
  const element = row.querySelector(".state");
  put(element, shown);
  element.dataset.state = value;
}

/** Marks the row of the opened call. */
export function mark(row, isOpened) {
  const link = row.querySelector("a");
  if (isOpened) link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
}
