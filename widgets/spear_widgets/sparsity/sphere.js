// b = 3: directions are points of a ball, rows of L great circles. Grab the ball and spin it; the cross in its middle is q.
//
// Data: `rows` of L (k, 3), with `noise`, `singular`, `limit` for their entries and their numbers `units`; `exact`, the
// columns q of Q, as rows (3, 3); `through` (k, 3), whether circle and sample meet; `photos`; whether they are `marked`.
import { bitmap, button, check, clamp, dot, slider, smooth, stage } from "../kit/stage.js";
import { drawEntries, look } from "./entries.js";
import { drawBall, drawCircles, drawCross, drawMarks, lamp, showing } from "./globe.js";
import { DEGREE, MIDDLE, carried, cross, onBall, rollOf, scaled, seen, tiltOf, turned, turnOf, unit, upright } from "./turning.js";

const SNAP = 0.8; // degrees within which the cross snaps; more than half of the diagonal of two steps by keys
const NEAR = 3; // degrees within which a circle counts as near
const REACH = 4; // pixels between the pointer and a circle that it lights
const SPARK = 450, FLIGHT = 650, FRICTION = 900; // milliseconds
const SLOW = 20 * DEGREE / 1000; // radians a millisecond below which a spinning ball may snap

// ---------------------------------------------------------------- what is shown
function begin(data, value) {
    const count = data.rows.shape[0];
    const state = {
        ...data, count: value.count ?? count, marked: value.marked ?? data.marked, found: value.found ?? [false, false, false],
        lit: new Float64Array(count).fill(-1e9), hit: [], pointer: null, glow: -1e9, snapped: -1, spin: null, flight: null,
        normals: Array.from({ length: count }, (_, i) => unit(data.rows.subarray(3 * i, 3 * i + 3))), first: data.marked,
    };
    const between = unit([0, 1, 2].map(k => data.exact[k] + data.exact[3 + k] + data.exact[6 + k])); // all three in view
    state.start = [Math.round(turnOf(between)) + 9, Math.round(tiltOf(between)) - 7];
    place(state, ...(value.at ?? state.start));
    return state;
}

const still = state => Object.assign(state, { spin: null, flight: null, straight: false });

// Bring turn and tilt, in degrees, to the cross; a head that is not upright becomes so, little by little.
export function place(state, turn, tilt) {
    const roll = state.eye ? rollOf(state.eye) : 0;
    still(state);
    gaze(state, turned(upright(turn, tilt), MIDDLE, roll), { turn, tilt });
    state.straight = Math.abs(roll) > 1e-9;
}

// Look through an eye: q is what it has in the middle; close to a sample, exactly the sample. `free` is before snapping.
function gaze(state, eye, free = { turn: turnOf(eye[2]), tilt: tiltOf(eye[2]) }) {
    const exact = [0, 1, 2].map(i => Array.from(state.exact.subarray(3 * i, 3 * i + 3)));
    const off = exact.map(q => Math.atan2(Math.hypot(...cross(q, eye[2])), Math.abs(dot(q, eye[2]))) / DEGREE);
    const nearest = off.indexOf(Math.min(...off));
    const slow = !state.flight && (!state.spin || Math.hypot(...state.spin) < SLOW);
    const snapped = slow && off[nearest] <= SNAP ? nearest : -1;
    const q = snapped < 0 ? eye[2] : scaled(exact[snapped], dot(exact[snapped], eye[2]) < 0 ? -1 : 1);
    if (snapped >= 0 && snapped !== state.snapped) {
        state.glow = performance.now();
        state.found = state.found.with(snapped, true);
        state.spin = null;
    }
    const before = state.entries && Array.from(state.entries, (entry, i) => (state.zero[i] ? 0 : entry));
    Object.assign(state, { eye, free, snapped, nearest, off: snapped < 0 ? off[nearest] : 0 });
    state.shown = snapped < 0 ? eye : carried(eye, seen(eye, q), MIDDLE);
    look(state, q);
    const now = performance.now(), limit = Math.sin(NEAR * DEGREE);
    state.near = state.normals.reduce((sum, normal) => sum + (Math.abs(dot(normal, q)) <= limit), 0);
    before?.forEach((entry, i) => { if (entry * state.entries[i] < 0 && !state.zero[i]) state.lit[i] = now; });
}

// Let go what moves by itself; true while something does.
function advance(state, time, calm) {
    const span = clamp(time - (state.time ?? time), 0, 50);
    state.time = time;
    if (state.flight) {
        const { eye, from, began } = state.flight, share = calm ? 1 : (time - began) / FLIGHT;
        if (share >= 1) state.flight = null;
        gaze(state, carried(eye, from, MIDDLE, smooth(share)));
    } else if (state.spin) {
        const speed = Math.hypot(...state.spin);
        if (calm || speed < SLOW / 8) state.spin = null;
        else {
            state.spin = scaled(state.spin, Math.exp(-span / FRICTION));
            gaze(state, turned(state.eye, scaled(state.spin, 1 / Math.hypot(...state.spin)), speed * span));
        }
    } else if (state.straight) {
        const roll = rollOf(state.eye), left = calm || Math.abs(roll) < 0.002 ? 0 : roll * Math.exp(-span / 120);
        state.straight = left !== 0;
        gaze(state, turned(state.eye, MIDDLE, left - roll), state.free);
    }
    return Boolean(state.flight || state.spin || state.straight);
}

// ---------------------------------------------------------------- where things are
const wide = width => width >= 620;
const height = width => (wide(width) ? clamp(width * 0.49, 420, 540) : 552);

function places({ width, height: tall }) {
    if (!wide(width)) {
        const radius = Math.min(width / 2 - 12, 134), side = Math.min(76, (width - 40) / 3);
        return {
            ball: { x: width / 2, y: radius + 6, radius }, hint: 2 * radius + 24,
            bars: { x: 8, y: 2 * radius + 60, width: width - 16, height: tall - 2 * radius - 60 - side - 56 },
            photos: { x: 8, y: tall - side - 22, side, step: side + 12 },
        };
    }
    const radius = Math.min(width * 0.25, (tall - 30) / 2), left = 2 * radius + 44, room = width - left - 10;
    const side = clamp((room - 40) / 3, 80, Math.min(150, tall * 0.28));
    return {
        ball: { x: radius + 8, y: radius + 6, radius }, hint: 2 * radius + 24,
        bars: { x: left, y: 28, width: room, height: tall - 28 - side - 76 },
        photos: { x: left, y: tall - side - 24, side, step: side + 18 },
    };
}

// ---------------------------------------------------------------- drawing
function draw(pen, state, time) {
    const moving = advance(state, time, pen.calm), at = (state.at = places(pen));
    if (moving && state.pointer) hover(state, state.pointer);
    const fade = i => (state.hit.includes(i) ? 1 : pen.calm ? 0 : 1 - smooth((time - state.lit[i]) / SPARK));
    const light = Array.from(state.lit, (_, i) => (i < state.count ? fade(i) : 0));
    const glow = pen.calm ? 0 : 1 - smooth((time - state.glow) / 800);
    drawBall(pen, at.ball, false);
    drawCircles(pen, state, at.ball, light);
    drawBall(pen, at.ball, true);
    drawMarks(pen, state, at.ball);
    drawCross(pen, state, at.ball, glow);
    pen.text("the cross is q: grab the ball and turn it", at.ball.x, at.hint, { size: 12, colour: pen.soft, align: "center" });
    drawBars(pen, state, at.bars, light);
    drawPhotos(pen, state, at.photos, glow);
    drawPointer(pen, state);
    return moving || glow > 0 || light.some((share, i) => share > 0 && !state.hit.includes(i));
}

function drawBars(pen, state, box, light) {
    const step = box.width / state.entries.length;
    light.forEach((share, i) => {
        if (share > 0) pen.box(box.x + (i - 0.14) * step, box.y, step, box.height, { fill: lamp(pen, 0.45 * share) });
    });
    const tint = i => (i < state.count ? pen.accent : pen.tone(0.25));
    drawEntries(pen, state, box, state.snapped >= 0, tint);
}

function drawPhotos(pen, state, { x, y, side, step }, glow) {
    const found = state.found.filter(Boolean).length;
    pen.text(`The client's batch: ${found} of 3 directions found`, x, y - 12, { size: 13, colour: pen.soft });
    for (let i = 0; i < 3; i++) {
        const left = x + 3 + i * step, here = i === state.snapped, tint = state.found[i] ? pen.sample(i) : pen.faint;
        if (here && glow > 0) pen.box(left - 6, y - 6, side + 12, side + 12, { stroke: tint, line: 6 * glow, round: 4 });
        const style = { alpha: state.found[i] ? 1 : 0.35, frame: tint, line: here ? 6 : state.found[i] ? 4 : 1 };
        pen.picture(bitmap(state.photos, i), left, y, side, side, style);
        if (showing(state, i)) pen.marker(i, left + 12, y + 12, 7);
        pen.text(`sample ${i + 1}`, left + side / 2, y + side + 17, { size: 12, align: "center", bold: here, colour: here ? pen.ink : pen.soft });
    }
}

function drawPointer(pen, state) {
    if (!state.pointer || !state.hit.length) return;
    const count = state.hit.length, names = state.hit.map(i => state.units[i]).join(", ");
    const words = count > 3 ? `${count} rows` : `${count > 1 ? "rows" : "row"} ${names}`, left = state.pointer.x > pen.width - 110;
    pen.text(words, state.pointer.x + (left ? -12 : 14), state.pointer.y - 10, { size: 12, bold: true, halo: true, align: left ? "right" : "left" });
}

// ---------------------------------------------------------------- touching
function grab(state, at, hovering) {
    const ball = state.at?.ball;
    if (!ball || Math.hypot(at.x - ball.x, at.y - ball.y) > ball.radius) return null;
    if (hovering) return true;
    const from = onBall(ball, at), eye = state.shown;
    still(state);
    hover(state, null);
    gaze(state, eye);
    return {
        move: to => gaze(state, carried(eye, from, onBall(ball, to))),
        drop: ({ x, y }) => {
            const speed = Math.min(Math.hypot(x, y) / ball.radius, 0.006);
            if (speed > SLOW) state.spin = scaled(unit([y, x, 0]), speed);
        },
    };
}

// Circles at the pointer, on the ball or as bars.
function hover(state, at) {
    const hit = [], { ball, bars } = state.at ?? {};
    if (at && ball) {
        const [dx, dy] = [(at.x - ball.x) / ball.radius, (ball.y - at.y) / ball.radius], square = dx * dx + dy * dy;
        const bar = Math.floor((at.x - bars.x) / bars.width * state.entries.length);
        if (square < 0.999) {
            const z = Math.sqrt(1 - square);
            for (let i = 0; i < state.count; i++) {
                const [nx, ny, nz] = seen(state.shown, state.normals[i]), steep = Math.hypot(nx - nz * dx / z, ny - nz * dy / z);
                if (Math.abs(nx * dx + ny * dy + nz * z) * ball.radius < REACH * steep) hit.push(i);
            }
        } else if (at.y > bars.y && at.y < bars.y + bars.height && bar >= 0 && bar < state.count) hit.push(bar);
    }
    const changed = hit.length > 0 || state.hit.length > 0;
    for (const i of state.hit) if (!hit.includes(i)) state.lit[i] = performance.now();
    Object.assign(state, { hit, pointer: at });
    return changed;
}

// The cross by some degrees to the right and up; it comes off a sample.
function step(state, right, up) {
    const angle = Math.hypot(right, up) * DEGREE, eye = state.shown;
    still(state);
    gaze(state, turned(eye, unit([up, -right, 0]), angle));
}

function face(state, sample) {
    const eye = state.shown, point = seen(eye, state.exact.subarray(3 * sample, 3 * sample + 3));
    still(state);
    state.flight = { eye, from: point[2] < 0 ? scaled(point, -1) : point, began: performance.now() };
}

function again(state) {
    Object.assign(state, { found: [false, false, false], count: state.rows.shape[0], marked: state.first });
    place(state, ...state.start);
}

function key(state, name) {
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1], PageUp: [0, 10], PageDown: [0, -10] };
    if (ways[name]) step(state, ...ways[name]);
    else if ("123".includes(name)) face(state, Number(name) - 1);
    else if (name === "Home") place(state, ...state.start);
    else return false;
    return true;
}

const degrees = value => `${value.toFixed(1)}°`.replace("-", "−");

function words(state) {
    const [turn, tilt, count] = [turnOf(state.q), tiltOf(state.q), state.rows.shape[0]];
    const passing = `Great circles exactly through q: ${state.zeros} of ${count}; within ${NEAR}°: ${state.near}.`;
    if (state.snapped >= 0) return `q is exactly the direction of sample ${state.snapped + 1}. ${passing}`;
    const far = state.marked ? ` Sample ${state.nearest + 1} is ${state.off.toFixed(1)}° away.` : "";
    return `q at turn ${degrees(turn)}, tilt ${degrees(tilt)}. ${passing}${far}`;
}

const all = state => state.rows.shape[0];

export default stage({
    name: "sphere-stage",
    label: "A ball that can be turned, with a great circle for each row of L, the cross q in its middle, and the entries of L q as bars.",
    height, begin, draw, words, grab, hover, key,
    controls: [
        slider("turn", [-180, 180, 0.5], state => state.free.turn, (state, turn) => place(state, turn, state.free.tilt),
            { text: state => degrees(turnOf(state.q)), grow: true, basis: "17em" }),
        slider("tilt", [-90, 90, 0.5], state => state.free.tilt, (state, tilt) => place(state, state.free.turn, tilt),
            { text: state => degrees(tiltOf(state.q)), grow: true, basis: "17em" }),
        slider("circles", state => [2, all(state), 1], state => state.count, (state, count) => { state.count = count; },
            { text: state => `${state.count} of ${all(state)}`, grow: true, basis: "17em" }),
        check("mark the samples", state => state.marked, (state, marked) => { state.marked = marked; }),
        ...[0, 1, 2].map(i => button(`Sample ${i + 1} to the middle`, state => face(state, i))),
        button("Start again", again),
    ],
    told: ({ free, zeros, snapped, count, marked, found }) => ({ at: [free.turn, free.tilt], zeros, sample: snapped, count, marked, found }),
});
