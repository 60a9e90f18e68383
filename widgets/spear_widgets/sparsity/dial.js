// b = 2: directions are angles. Grab the needle: the entries of L q are bars, and at exactly two angles many fall to zero.
//
// Data: `rows` of L (k, 2), with `noise`, `singular`, `limit` for their entries; `exact`, the two columns q of Q, as rows
// (2, 2), their `angles` in degrees and zeros, `peaks`; `positions` and `counts`, zeros by angle; `combined` = L⁺ g (2,);
// `R` (2, n); `photo` says how its rows are shown.
import { button, clamp, develop, dot, slider, smooth, stage } from "../kit/stage.js";
import { counted, drawEntries, look } from "./entries.js";

const SNAP = 0.5; // degrees within which the needle snaps
const DEGREE = Math.PI / 180;
const ROUND = 26; // around the dial, where its needle's q goes

const apart = (a, b) => { const d = Math.abs(a - b) % 180; return Math.min(d, 180 - d); };

function begin(data, value) {
    const state = { ...data, angle: value.angle ?? 20, snapped: -1, glow: -1e9, ghost: document.createElement("canvas") };
    turn(state, state.angle);
    return state;
}

// Turn q to an angle; close to a sample's, to exactly that. `asked` is the angle before.
export function turn(state, angle) {
    angle = state.asked = ((angle % 180) + 180) % 180;
    const near = [0, 1].reduce((a, b) => (apart(angle, state.angles[a]) <= apart(angle, state.angles[b]) ? a : b));
    const snapped = apart(angle, state.angles[near]) <= SNAP ? near : -1;
    if (snapped >= 0 && snapped !== state.snapped) state.glow = performance.now();
    Object.assign(state, { near, snapped, angle: snapped < 0 ? angle : state.angles[near] });
    state.off = apart(state.angle, state.angles[near]);
    const a = state.angle * DEGREE;
    look(state, snapped < 0 ? [Math.cos(a), Math.sin(a)] : state.exact.subarray(2 * near, 2 * near + 2));
    state.other = other(state);
    develop(state.other, state.photo, 0, state.ghost);
}

// What q makes of the other sample: row 2 of Q⁻¹ R, with Q = [q, across] diag(s) and s = Q̄ᵀ L⁺ g.
function other({ q, R, combined }) {
    const across = [-q[1], q[0]], length = dot(across, combined), n = R.shape[1], row = new Float64Array(n);
    for (let i = 0; i < n; i++) row[i] = (across[0] * R[i] + across[1] * R[n + i]) / length;
    return row;
}

// ---------------------------------------------------------------- where things are
const wide = width => width >= 620;
const height = width => (wide(width) ? clamp(width * 0.46, 400, 500) : 540);

function places({ width, height: tall }) {
    const curve = 96, top = 30;
    if (!wide(width)) {
        const radius = Math.min(width * 0.25, 110);
        return {
            dial: { x: radius + ROUND, y: radius + ROUND, radius },
            ghost: { x: 2 * radius + 2 * ROUND + 6, y: 44, side: Math.min(width - 2 * radius - 2 * ROUND - 12, 130) },
            bars: { x: 10, y: 2 * radius + 80, width: width - 20, height: tall - 2 * radius - 80 - curve - 20 },
            curve: { x: 36, y: tall - curve + 8, width: width - 54, height: curve - 36 },
        };
    }
    const radius = Math.min(width * 0.17, (tall - curve) / 2 - ROUND), side = Math.min(150, width * 0.16);
    return {
        dial: { x: radius + ROUND, y: radius + ROUND, radius },
        ghost: { x: width - side - 6, y: top + 16, side },
        bars: { x: 2 * radius + 2 * ROUND + 10, y: top, width: width - 2 * radius - side - 2 * ROUND - 46, height: tall - curve - top - 20 },
        curve: { x: 44, y: tall - curve + 10, width: width - 62, height: curve - 38 },
    };
}

// ---------------------------------------------------------------- drawing
function draw(pen, state, time) {
    const at = places(pen);
    state.at = at;
    const glow = pen.calm ? 0 : 1 - smooth((time - state.glow) / 700);
    drawDial(pen, state, at.dial, glow);
    drawEntries(pen, state, at.bars, state.snapped >= 0);
    drawCurve(pen, state, at.curve);
    const { x, y, side } = at.ghost, found = state.snapped >= 0;
    pen.text("what q makes of", x, y - 20, { size: 12, colour: pen.soft });
    pen.text("the other sample", x, y - 6, { size: 12, colour: pen.soft });
    pen.picture(state.ghost, x, y, side, side, { frame: found ? pen.sample(1 - state.snapped) : pen.faint, line: found ? 4 : 1 });
    return glow > 0;
}

function drawDial(pen, state, { x, y, radius }, glow) {
    pen.disc(x, y, radius, { stroke: pen.faint });
    for (let i = 0; i < state.rows.shape[0]; i++) {
        const a = Math.atan2(state.rows[2 * i], -state.rows[2 * i + 1]); // the line on which this row is zero
        const [dx, dy] = [Math.cos(a) * radius, Math.sin(a) * radius], zero = state.zero[i];
        pen.line([[x - dx, y + dy], [x + dx, y - dy]], zero ? pen.hot : pen.tone(0.55, 0.3), zero ? 1.6 : 0.9);
    }
    const a = state.angle * DEGREE, [dx, dy] = [Math.cos(a) * radius, Math.sin(a) * radius];
    if (glow > 0) pen.disc(x + dx, y - dy, 10 + 26 * (1 - glow), { stroke: pen.tone(1, glow), line: 3 * glow });
    const colour = state.snapped < 0 ? pen.ink : pen.sample(state.snapped);
    pen.line([[x - dx, y + dy], [x + dx, y - dy]], colour, 3);
    pen.disc(x + dx, y - dy, 9, { fill: colour, stroke: pen.paper, line: 2 });
    const turned = 1 + 15 / radius;
    pen.text("q", x + dx * turned, y - dy * turned, { bold: true, align: "center", base: "middle", size: 14, halo: true });
}

function drawCurve(pen, state, { x, y, width, height: tall }) {
    const top = Math.max(...state.counts), across = degrees => x + (degrees / 180) * width;
    const up = count => y + tall * (1 - count / (top * 1.1));
    pen.line([[x, y + tall], [x + width, y + tall]], pen.faint);
    pen.line(Array.from(state.positions, (degrees, i) => [across(degrees), up(state.counts[i])]), pen.accent, 1.5);
    for (let degrees = 0; degrees <= 180; degrees += 30) {
        pen.text(`${degrees}°`, across(degrees), y + tall + 14, { size: 11, colour: pen.soft, align: "center" });
    }
    pen.text("zeros", x - 4, y + 6, { size: 11, colour: pen.soft, align: "right" });
    state.angles.forEach((degrees, i) => {
        pen.marker(i, across(degrees), up(state.peaks[i]), 5);
        const left = degrees > 150;
        pen.text(`sample ${i + 1}`, across(degrees) + (left ? -9 : 9), up(state.peaks[i]) + 4, { size: 12, align: left ? "right" : "left" });
    });
    pen.line([[across(state.angle), y], [across(state.angle), y + tall]], pen.ink, 1.5);
}

// ---------------------------------------------------------------- touching
function grab(state, { x, y }) {
    if (!state.at) return null;
    const { dial, curve } = state.at;
    if (Math.hypot(x - dial.x, y - dial.y) < dial.radius + 24) {
        return { move: to => turn(state, Math.atan2(dial.y - to.y, to.x - dial.x) / DEGREE) };
    }
    if (y > curve.y - 6 && y < curve.y + curve.height + 20 && x > curve.x - 10) {
        return { move: to => turn(state, clamp((to.x - curve.x) / curve.width, 0, 0.9999) * 180) };
    }
    return null;
}

function key(state, name) {
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 }[name];
    if (name === "Home" || name === "End") turn(state, name === "Home" ? 0 : 179);
    else if (step) turn(state, away(state, step));
    return Boolean(step) || name === "Home" || name === "End";
}

// One step on; where the needle has snapped, far enough to come off.
const away = (state, step) => state.angle + (state.snapped >= 0 ? Math.sign(step) * Math.max(Math.abs(step), 2 * SNAP) : step);

function next(state) {
    const ahead = i => (state.angles[i] - state.angle + 180) % 180 || 180;
    turn(state, state.angles[ahead(0) <= ahead(1) ? 0 : 1]);
}

const degrees = state => (state.snapped < 0 ? `${state.angle.toFixed(1)}°` : `${state.angle.toFixed(4)}°`);

function words(state) {
    const count = `q at ${degrees(state)}: ${counted(state)}. `;
    if (state.snapped < 0) return `${count}It is ${state.off.toFixed(1)}° from the direction of sample ${state.near + 1}.`;
    return `${count}This is exactly the direction of sample ${state.snapped + 1}, and the picture is sample ${2 - state.snapped}.`;
}

export default stage({
    name: "dial-stage",
    label: "A dial with a line for each row of L and a needle q, the entries of L q as bars, and their zeros by angle.",
    height, begin, draw, words, grab, key,
    controls: [
        slider("turn q", [0, 179.5, 0.5], state => state.asked, (state, angle) => turn(state, angle), { text: degrees, grow: true }),
        button("Next sample", next),
    ],
    told: ({ angle, zeros, snapped }) => ({ angle, zeros, sample: snapped }),
});
