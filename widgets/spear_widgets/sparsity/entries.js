// One direction q, and what it does to the live rows of L: the page's half of `directions.py`.
import { times } from "../kit/stage.js";
import { zeroEntries } from "../kit/zero.js";

// Fills state with `entries` of L q, which of them are `zero` to rounding, and how many: `zeros`. For a unit vector q.
export function look(state, q) {
    state.q = q;
    state.entries = times(state.rows, q, state.entries);
    state.zero = zeroEntries(state.entries, q, state);
    state.zeros = state.zero.reduce((sum, zero) => sum + zero, 0);
}

export const counted = ({ zeros, entries }) => `${zeros} of ${entries.length} entries of L q ${zeros === 1 ? "is" : "are"} zero`;

// The entries as bars in a box, with a diamond on the line for each that is zero, and their number above; `tint` of bar i.
export function drawEntries(pen, state, box, found, tint = () => pen.accent) {
    pen.text(counted(state), box.x, box.y - 10, { bold: true, size: 14, colour: found ? pen.hot : pen.ink });
    pen.bars(state.entries, box, state.limit, tint);
    const step = box.width / state.entries.length, middle = box.y + box.height / 2;
    const radius = Math.min(5, Math.max(2.5, step * 0.45));
    state.zero.forEach((zero, i) => { if (zero) pen.marker(3, box.x + (i + 0.36) * step, middle, radius, pen.hot); });
}
