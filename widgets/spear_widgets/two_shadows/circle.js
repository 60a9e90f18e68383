// b = 2: the misfit around the circle of directions, and the search from any start: grab it, let go, and it rolls down.
//
// Data: `positions` in degrees, ascending, and the `misfit` there; `walks` (360, P), the angles at which the search from
// each whole degree stands at each place of a run (walk.js) with these `counts`, and their `heights`, the misfit there;
// `angles` of the two samples; `photos` (2, H, W, 3); `units`, `equations`; `near` in degrees; `chart`, `means`, `R`,
// `photo` for ghosts.
import { clamp, mix, slider, stage } from "../kit/stage.js";
import { advance, after, depthColour, developGhost, drawGhost, ended, go, inWords, newRun, runControls, runKey } from "./walk.js";

const DEGREE = Math.PI / 180;
const [LOWEST, HIGHEST] = [-8, 0.9]; // powers of ten of the misfit that the curve shows
const ROUNDING = 2e-6; // misfit that 32-bit numbers leave
const STRIP = [0, 1, 2, 4, 8, 16, 40]; // steps whose ghosts are shown side by side; and the finish

const apart = (from, to) => ((to - from + 540) % 360) - 180; // shortest way round
const toward = angle => [Math.cos(angle * DEGREE), Math.sin(angle * DEGREE)];

function begin(data, value, ask, before) {
    const kept = data.keep && before ? before : { start: value.start ?? 174, run: { at: value.at ?? 0 } };
    const places = [...STRIP.map(count => data.counts.indexOf(count)), data.counts.length];
    const ghosts = places.map(place => ({ place, canvas: document.createElement("canvas"), there: false }));
    const state = { ...data, run: newRun(data.counts, kept.run.at), ghosts, ghost: document.createElement("canvas") };
    setStart(state, kept.start, kept.run.at);
    return state;
}

function setStart(state, angle, place = 0) {
    state.start = ((Math.round(angle) % 360) + 360) % 360;
    go(state.run, place);
    for (const ghost of state.ghosts) ghost.there = developGhost(state, toward(where(state, ghost.place).angle), ghost.canvas);
}

// Misfit on the curve, between those that Python sent.
export function curve({ positions, misfit }, angle) {
    const count = positions.length;
    let [low, high] = [0, count]; // the first position above the angle
    while (low < high) {
        const middle = (low + high) >> 1;
        if (positions[middle] > angle) high = middle;
        else low = middle + 1;
    }
    const [i, j] = [(low + count - 1) % count, low % count], gap = (positions[j] - positions[i] + 360) % 360;
    const share = gap ? ((angle - positions[i] + 360) % 360) / gap : 0;
    return Math.exp(mix(Math.log(misfit[i] + 1e-300), Math.log(misfit[j] + 1e-300), share));
}

// Where the search stands at a place: at places themselves as Python says, between two on the curve.
export function where(state, place) {
    const { walks, heights, start } = state, count = walks.shape[1], k = start * count + Math.min(Math.floor(place), count - 1);
    const share = place - Math.floor(place);
    if (!share) return { angle: walks[k], misfit: heights[k] };
    const angle = (walks[k] + share * apart(walks[k], walks[k + 1]) + 360) % 360;
    return { angle, misfit: curve(state, angle) };
}

const nearest = ({ angles }, angle) => {
    const away = [0, 1].map(i => Math.abs(apart(angle, angles[i]))), sample = away[0] <= away[1] ? 0 : 1;
    return { sample, away: away[sample] };
};

// ---------------------------------------------------------------- where things are
const wide = width => width >= 620;
const height = width => Math.round(wide(width) ? clamp(width * 0.46, 400, 520) : 540);

function places({ width, height: high }) {
    const thumb = Math.floor(Math.min(wide(width) ? 82 : 60, (width - 7 * 6) / 8)), strip = { x: 2, y: high - thumb - 4, side: thumb, step: (width - 4 - thumb) / 7 };
    if (!wide(width)) {
        const radius = 86;
        return { ring: { x: width / 2, y: radius + 36, radius }, curve: { x: 40, y: 2 * radius + 84, width: width - 50, height: strip.y - 2 * radius - 84 - 70 }, strip };
    }
    const radius = Math.min((strip.y - 30) / 2 - 38, width * 0.15), x = 2 * radius + 150;
    return { ring: { x: radius + 46, y: radius + 38, radius }, curve: { x, y: 16, width: width - x - 10, height: strip.y - 90 }, strip };
}

// ---------------------------------------------------------------- drawing
function draw(pen, state, time) {
    const at = places(pen), rolling = advance(state.run, time, pen.calm), ball = where(state, state.run.at);
    Object.assign(state, { at, ball, ...nearest(state, ball.angle) });
    state.there = state.away < state.near;
    drawRing(pen, state, at.ring);
    drawCurve(pen, state, at.curve);
    drawStrip(pen, state, at.strip);
    return rolling;
}

const colourOf = misfit => `rgb(${depthColour(misfit).map(Math.round)})`;

function drawRing(pen, state, { x, y, radius }) {
    const { context } = pen, thick = 18, spot = (angle, r = radius) => [x + r * Math.cos(angle * DEGREE), y - r * Math.sin(angle * DEGREE)];
    for (let angle = 0; angle < 360; angle += 2) {
        context.beginPath();
        context.arc(x, y, radius, -(angle + 2.6) * DEGREE, -angle * DEGREE);
        Object.assign(context, { strokeStyle: colourOf(curve(state, angle + 1)), lineWidth: thick, lineCap: "butt" });
        context.stroke();
    }
    state.angles.forEach((angle, i) => pen.marker(i, ...spot(angle, radius + 22), 8));
    const side = radius * 1.14;
    state.real = developGhost(state, toward(state.ball.angle), state.ghost);
    drawGhost(pen, state.real, state.ghost, { x: x - side / 2, y: y - side / 2, side }, state.there ? pen.sample(state.sample) : pen.faint, state.there ? 4 : 1);
    for (const [place, passed] of steps(state)) drawStep(pen, ...spot(where(state, place).angle), passed);
    const [kx, ky] = spot(state.start, radius + 22);
    pen.line([spot(state.start, radius - 9), [kx, ky]], pen.ink, 2);
    pen.disc(kx, ky, 9, { fill: pen.paper, stroke: pen.ink, line: 2.5 });
    drawBall(pen, ...spot(state.ball.angle), 9, state);
}

// All places of the run, and whether it has come by.
const steps = state => Array.from({ length: state.run.counts.length + 1 }, (_, place) => [place, place <= state.run.at]);

const drawStep = (pen, x, y, passed) => pen.disc(x, y, passed ? 3.4 : 2.6, { fill: passed ? "#ffffff" : "rgba(255, 255, 255, .65)", stroke: passed ? "#111111" : "rgba(17, 17, 17, .5)" });

function drawBall(pen, x, y, radius, state) {
    const fill = pen.context.createRadialGradient(x - radius * 0.35, y - radius * 0.4, 1, x, y, radius), colour = state.there ? pen.sample(state.sample) : "#b9b4a8";
    [[0, "#ffffff"], [0.45, state.there ? colour : "#ece8de"], [1, colour]].forEach(stop => fill.addColorStop(...stop));
    pen.disc(x + 1, y + 2, radius + 0.5, { fill: "rgba(0, 0, 0, .3)" });
    pen.disc(x, y, radius, { fill, stroke: "#111111", line: 1.2 });
}

function drawCurve(pen, state, { x, y, width, height: tall }) {
    const across = angle => x + (angle / 360) * width, power = misfit => clamp(Math.log10(misfit + 1e-300), LOWEST, HIGHEST);
    const up = misfit => y + tall * (HIGHEST - power(misfit)) / (HIGHEST - LOWEST), floor = y + tall;
    pen.box(x, up(ROUNDING), width, floor - up(ROUNDING), { fill: pen.tone(0.07) });
    const line = Array.from(state.positions, (angle, i) => [across(angle), up(state.misfit[i])]);
    line.unshift([x, up(curve(state, 0))]);
    line.push([x + width, up(curve(state, 0))]);
    drawGround(pen, line, floor, x, width);
    pen.text("rounding of 32-bit numbers", x + width - 6, floor - 7, { size: 11, colour: pen.soft, align: "right" });
    for (let k = 0; k >= LOWEST; k -= 2) pen.text(k ? `10⁻${"⁰¹²³⁴⁵⁶⁷⁸"[-k]}` : "1", x - 7, up(10 ** k) + 4, { size: 11, colour: pen.soft, align: "right" });
    pen.text("misfit", x - 7, y - 4, { size: 11, colour: pen.soft, align: "right" });
    for (let angle = 0; angle < 360; angle += 2) pen.box(across(angle), floor + 4, width / 180 + 0.5, 7, { fill: colourOf(curve(state, angle + 1)) });
    for (let angle = 0; angle <= 360; angle += 60) pen.text(`${angle}°`, across(angle), floor + 26, { size: 11, colour: pen.soft, align: angle === 360 ? "right" : "center" });
    drawEmpty(pen, state, across, y, tall);
    state.angles.forEach((angle, i) => {
        pen.marker(i, across(angle), y + 4, 7);
        pen.text(`sample ${i + 1}`, across(angle) + (i ? 12 : -12), y + 8, { size: 12, align: i ? "left" : "right" });
    });
    const top = up(state.heights[state.start * state.heights.shape[1]]);
    pen.line([[across(state.start), floor], [across(state.start), top]], pen.faint, 1);
    pen.disc(across(state.start), top, 10, { stroke: pen.ink, line: 2 });
    for (const [place, passed] of steps(state)) {
        const { angle, misfit } = where(state, place);
        drawStep(pen, across(angle), up(misfit), passed);
    }
    drawBall(pen, across(state.ball.angle), up(state.ball.misfit) - 3, 8, state);
}

// The curve as the surface of a ground.
function drawGround(pen, line, floor, x, width) {
    const { context } = pen;
    context.beginPath();
    [[x, floor], ...line, [x + width, floor]].forEach(([px, py], i) => (i ? context.lineTo(px, py) : context.moveTo(px, py)));
    context.fillStyle = pen.dark ? "rgba(70, 128, 180, .28)" : "rgba(70, 128, 180, .2)";
    context.fill();
    pen.line(line, pen.ink, 1.6);
    pen.line([[x, floor], [x + width, floor]], pen.faint);
}

// Where c · means ≤ 0 and no input lies: half of the circle, away from the direction of chartᵀ means.
function drawEmpty(pen, { chart, means }, across, y, tall) {
    const [u, v] = [0, 1].map(i => means[0] * chart[i] + means[1] * chart[2 + i]), middle = (Math.atan2(v, u) / DEGREE + 360) % 360;
    const [from, to] = [(middle + 90) % 360, (middle + 270) % 360], parts = from < to ? [[from, to]] : [[0, to], [from, 360]];
    for (const [low, high] of parts) {
        pen.box(across(low), y, across(high) - across(low), tall, { fill: pen.tone(0.5, 0.16) });
        if (high - low > 40) pen.text("no input here", across((low + high) / 2), y + tall * 0.42, { size: 11, colour: pen.soft, align: "center" });
    }
}

function drawStrip(pen, state, { x, y, side, step }) {
    pen.text("what the direction stands for, after so many steps", x, y - 22, { size: 12, colour: pen.soft });
    const now = state.ghosts.findLastIndex(({ place }) => place <= state.run.at);
    state.ghosts.forEach(({ place, canvas, there }, i) => {
        const box = { x: x + i * step, y, side }, name = place === 0 ? "start" : place === state.counts.length ? "finish" : String(state.counts[place]);
        drawGhost(pen, there, canvas, box, i === now ? pen.ink : pen.faint, i === now ? 3 : 1);
        pen.text(name, box.x + side / 2, y - 5, { size: 11, colour: i === now ? pen.ink : pen.soft, bold: i === now, align: "center" });
    });
}

// ---------------------------------------------------------------- touching
function grab(state, from) {
    if (!state.at) return null;
    const { ring, curve: box, strip } = state.at, held = act => ({ move: act, drop: () => go(state.run, 0, true) });
    if (Math.hypot(from.x - ring.x, from.y - ring.y) < ring.radius + 38) {
        return held(to => setStart(state, Math.atan2(ring.y - to.y, to.x - ring.x) / DEGREE));
    }
    if (from.y >= strip.y && from.y < strip.y + strip.side) {
        const i = Math.round((from.x - strip.side / 2) / strip.step);
        return { drop: () => go(state.run, state.ghosts[clamp(i, 0, 7)].place) };
    }
    if (from.x >= box.x - 8 && from.x <= box.x + box.width + 8 && from.y >= box.y - 8 && from.y < box.y + box.height + 30) {
        return held(to => setStart(state, clamp((to.x - box.x) / box.width, 0, 0.9985) * 360));
    }
    return null;
}

function key(state, name) {
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowDown: -10, ArrowUp: 10 }[name];
    if (!by) return runKey(state.run, name);
    setStart(state, state.start + by);
    return true;
}

// ---------------------------------------------------------------- words
function words(state) {
    const { units, equations, run, ball, start, there, sample, real } = state;
    const seen = `${units} unit${units === 1 ? "" : "s"} seen, ${equations} equation${equations === 1 ? "" : "s"}.`;
    if (!equations) return `The server sees ${units} unit${units === 1 ? "" : "s"} of the next layer, and b = 2: every direction fits. There is nothing to walk to, and the search stays where it is.`;
    const place = `at ${ball.angle.toFixed(1)}°, misfit ${inWords(ball.misfit)}${real ? "" : ", where no input lies"}`;
    if (ended(run)) return `${seen} From ${start}° the search ends ${there ? `at sample ${sample + 1}` : "at no sample"}: ${place}.`;
    if (run.at < 1) return `${seen} The search starts ${place}. Drag the start and let go, or press Play.`;
    return `${seen} From ${start}°, after ${after(run.at, run.counts)}, the search is ${place}.`;
}

export default stage({
    name: "circle-stage",
    label: "A circle of directions coloured by misfit, and the misfit against the angle; a search starts where you put it. "
        + "Arrows move the start, space plays, page up and page down go step by step.",
    height, begin, draw, words, grab, key,
    controls: [
        ...runControls,
        slider("start", [0, 359], state => state.start, (state, angle) => setStart(state, angle), { text: state => `${state.start}°`, grow: true }),
    ],
    told: ({ start, run }) => ({ start, at: run.at }),
});
