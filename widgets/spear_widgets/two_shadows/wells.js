// b = 3: the misfit over all directions as a relief, down which searches roll as balls. One can turn it, tilt it, fold it
// up into the ball that the directions are, and let a ball of one's own start anywhere.
//
// Data: `rings`, `sectors`, `places`, `misfit` of the relief (relief.js); `paths` (K, P, 3), where K searches stand at each
// place of a run (walk.js) with these `counts`, and their `heights`, the misfit there (K, P): first the balls, then from
// `free` on the starts that a reader may choose, `first` the one that is ringed at first; `samples` (3, 3) as rows; `units`, `equations`; `near` in degrees;
// `photos` (3, H, W, 3); `chart`, `means`, `R`, `photo` for ghosts. Directions are (right, up, towards the middle).
import { bitmap, button, check, choice, clamp, dot, mix, slider, smooth, stage } from "../kit/stage.js";
import { Relief, tall } from "./relief.js";
import { advance, after, depthColour, developGhost, drawGhost, go, inWords, newRun, runControls, runKey } from "./walk.js";

const SHAPES = [["landscape", "flat"], ["ball", "ball"]];
const LOWEST = { flat: 25, ball: -90 }, FIRST_TILT = { flat: 52, ball: 70 };
const FAST = 120e3; // pixels of a relief that moves
const SETTLE = 650; // ms from one shape to another
const COAST = 420; // ms in which a spin loses two thirds
const TIP = 0.05; // misfit, as a share of the highest, where a well becomes too narrow for a ball
const PIECES = 4; // of an arc between two places
const DEGREE = Math.PI / 180;

function begin(data, value, ask, before) {
    const kept = (data.keep && before) || { spin: 0, tilt: FIRST_TILT.flat, shape: "flat", balls: Math.min(20, data.free), trails: true, ...value };
    const { spin, tilt, shape, balls, trails } = kept, relief = new Relief(data), start = kept.start ?? -1;
    const state = {
        ...data, relief, spin, tilt, shape, balls, trails, start, chosen: kept.chosen ?? data.first, arcs: new Map(),
        speed: [0, 0], held: false, flat: shape === "flat" ? 1 : 0, ghost: document.createElement("canvas"),
        run: newRun(data.counts, kept.run?.at ?? value.at ?? 0), shown: before?.shown ?? data.misfit,
    };
    move(state, { flat: before?.flat });
    return state;
}

// ---------------------------------------------------------------- how the relief changes
// On the way to another shape or another misfit, from where it is.
function move(state, { from = state.shown, flat = state.flat } = {}) {
    state.change = { from, flat, began: null };
}

function settle(state, time, calm) {
    const { change, misfit } = state;
    if (!change) return false;
    change.began ??= time;
    const share = calm ? 1 : smooth((time - change.began) / SETTLE);
    state.flat = mix(change.flat, state.shape === "flat" ? 1 : 0, share);
    state.shown = share === 1 || change.from === misfit ? misfit : misfit.map((m, i) => mix(change.from[i], m, share));
    state.relief.shape(state.flat, state.shown);
    state.arcs.clear();
    if (share === 1) state.change = null;
    return share < 1;
}

function coast(state, time, calm) {
    const { speed } = state, span = Math.min(50, time - (state.time ?? time));
    state.time = time;
    if (calm || Math.hypot(...speed) < 0.01) state.speed = [0, 0];
    if (state.held || !Math.hypot(...state.speed)) return false;
    turnBy(state, speed[0] * span, speed[1] * span);
    state.speed = speed.map(v => v * Math.exp(-span / COAST));
    return true;
}

function turnBy(state, spin, tilt) {
    state.spin = ((state.spin + spin + 540) % 360) - 180;
    state.tilt = clamp(state.tilt + tilt, LOWEST[state.shape], 90);
}

function reshape(state, shape) {
    Object.assign(state, { shape, tilt: FIRST_TILT[shape] });
    move(state);
}

// ---------------------------------------------------------------- where the balls are
// The searches that are shown: the balls, and that of the reader.
const shownOnes = state => [...Array(state.balls).keys(), ...(state.start < 0 ? [] : [state.start])];

// Direction and misfit of search k at a place: on the great circle between two places, on the relief, and at the places
// themselves exactly where Python says.
export function where({ paths, heights, relief, shown }, k, place) {
    const [, count] = heights.shape, i = Math.min(Math.floor(place), count - 1), j = Math.min(i + 1, count - 1), share = place - i;
    const a = paths.subarray(3 * (k * count + i), 3 * (k * count + i) + 3), ends = [heights[k * count + i], heights[k * count + j]];
    if (!share) return { at: Array.from(a), misfit: ends[0] };
    const b = paths.subarray(3 * (k * count + j), 3 * (k * count + j) + 3), angle = Math.acos(clamp(dot(a, b), -1, 1));
    const [from, to] = angle < 1e-3 ? [1 - share, share] : [Math.sin((1 - share) * angle) / Math.sin(angle), Math.sin(share * angle) / Math.sin(angle)];
    const at = [0, 1, 2].map(c => from * a[c] + to * b[c]), size = Math.hypot(...at);
    const point = at.map(v => v / size), off = [a, b].map((p, end) => ends[end] - relief.under(...p, shown));
    return { at: point, misfit: Math.max(0, relief.under(...point, shown) + mix(...off, share)) };
}

// The sample nearest to a direction, and how many degrees away it is.
export function nearestSample(samples, at) {
    const chords = [0, 1, 2].map(i => Math.hypot(...at.map((v, c) => v - samples[3 * i + c])));
    const sample = chords.indexOf(Math.min(...chords));
    return { sample, away: 2 * Math.asin(Math.min(1, chords[sample] / 2)) / DEGREE };
}

// Points in space along the whole of a path, PIECES between two places.
function arc(state, k) {
    if (!state.arcs.has(k)) {
        const count = (state.heights.shape[1] - 1) * PIECES + 1, points = new Float32Array(3 * count);
        for (let i = 0; i < count; i++) {
            const { at, misfit } = where(state, k, i / PIECES);
            state.relief.stand(...at, tall(misfit) + 0.012, points, 3 * i);
        }
        state.arcs.set(k, points);
    }
    return state.arcs.get(k);
}

// A start of the reader's, as near to a direction as there is one.
function startAt(state, direction) {
    const [count, places] = state.heights.shape;
    let best = -2;
    for (let k = state.free; k < count; k++) {
        const cosine = dot(state.paths, direction, 3 * k * places, 0, 3);
        if (cosine > best) [best, state.start] = [cosine, k];
    }
    state.chosen = state.start;
    go(state.run, 0);
}

// ---------------------------------------------------------------- where things are
const wide = width => width >= 620;
const height = width => Math.round(wide(width) ? clamp(width * 0.46, 380, 540) : clamp(width * 0.85 + 150, 430, 540));

function places({ width, height: high }) {
    if (wide(width)) {
        const panel = Math.round(clamp(width * 0.25, 190, 330)), x = width - panel, thumb = Math.min((panel - 22) / 3, high * 0.2);
        const side = Math.min(panel - 4, high - thumb - 150);
        return {
            relief: { x: 0, y: 0, width: x - 24, height: high }, ghost: { x, y: 26, side }, legend: { x: 6, y: high - 122, tall: 90 },
            note: { x, y: 26 + side + 20 }, photos: { x, y: high - thumb - 46, side: thumb, step: thumb + 9 },
        };
    }
    const low = 138, thumb = Math.min((width - 110 - 36) / 3, 76), x = width - 3 * thumb - 18;
    return {
        relief: { x: 0, y: 0, width, height: high - low - 14 }, ghost: { x: 2, y: high - low + 24, side: 76 },
        legend: { x: 2, y: high - low - 84, tall: 50 }, note: { x: 2, y: high - 18 }, photos: { x, y: high - low + 24, side: thumb, step: thumb + 8 },
    };
}

// ---------------------------------------------------------------- drawing
function draw(pen, state, time) {
    const at = places(pen), calm = pen.calm, { relief } = state;
    const rolling = advance(state.run, time, calm), changing = settle(state, time, calm), coasting = coast(state, time, calm);
    state.at = at;
    relief.look(state.spin, state.tilt, at.relief);
    const area = at.relief.width * at.relief.height, device = window.devicePixelRatio || 1;
    const quick = Math.min(device, Math.sqrt(FAST / area)), moves = changing || coasting || state.held;
    relief.draw(pen, quick, !moves);
    state.seen = look(pen, state);
    drawFlags(pen, state, false);
    if (state.trails) drawTrails(pen, state);
    drawBalls(pen, state);
    drawFlags(pen, state, true);
    drawLegend(pen, at.legend);
    drawPanel(pen, state, at);
    if (state.over && !moves) pen.text(`misfit ${inWords(state.over.misfit)}`, state.over.x, state.over.y - 14, { size: 12, align: "center", halo: true });
    state.moving = moves; // one more frame when it has come to rest: the fine one
    return rolling || changing || coasting || (moves && !state.held);
}

// All balls: where they are in truth and on the canvas, those that meet beside each other; farthest first.
function look(pen, state) {
    const radius = clamp(state.relief.unit / 15, 4, 8) * (state.balls > 30 ? 0.85 : 1);
    const balls = shownOnes(state).map((k, i) => {
        const spot = where(state, k, state.run.at), space = state.relief.stand(...spot.at, tall(Math.max(spot.misfit, TIP * state.relief.peak ** 2)) + 0.02);
        const [x, y, depth] = state.relief.project(space), hidden = state.relief.hides(x, y - 2, depth, 0.2);
        const turn = 2.4 * i, away = 0.01 * Math.sqrt(i);
        return { k, ...spot, ...nearestSample(state.samples, spot.at), depth, hidden, radius, x: x + away * Math.cos(turn), y: y + away * Math.sin(turn) - 0.55 * radius };
    });
    for (let round = 0; round < 24; round++) {
        for (let i = 0; i < balls.length; i++) for (let j = 0; j < i; j++) part(balls[i], balls[j], 1.75 * radius);
    }
    return balls.sort((a, b) => a.depth - b.depth);
}

function part(a, b, apart) {
    const [dx, dy] = [a.x - b.x, a.y - b.y], distance = Math.hypot(dx, dy);
    if (distance >= apart || !distance) return;
    const push = 0.4 * (apart - distance) / distance;
    a.x += dx * push;
    a.y += dy * push;
    b.x -= dx * push;
    b.y -= dy * push;
}

function drawTrails(pen, state) {
    const { relief, run } = state, { context } = pen, until = Math.floor(run.at * PIECES);
    const paths = { seen: new Path2D(), behind: new Path2D(), mine: new Path2D() };
    for (const k of shownOnes(state)) {
        const points = arc(state, k), last = k === state.start ? points.length / 3 - 1 : until;
        let before = relief.project(points), current = null;
        for (let i = 1; i <= last; i++) {
            const here = relief.project(points, 3 * i), hidden = relief.hides(...here);
            const path = hidden ? paths.behind : k === state.chosen && i <= until ? paths.mine : paths.seen;
            if (Math.hypot(here[0] - before[0], here[1] - before[1]) < 1.5 && i < last) continue;
            if (path !== current) path.moveTo(before[0], before[1]);
            path.lineTo(here[0], here[1]);
            [before, current] = [here, path];
        }
    }
    const stroke = (path, colour, width) => { Object.assign(context, { strokeStyle: colour, lineWidth: width, lineJoin: "round" }); context.stroke(path); };
    stroke(paths.behind, pen.dark ? "rgba(255, 255, 255, .16)" : "rgba(0, 0, 0, .13)", 1);
    stroke(paths.seen, "rgba(0, 0, 0, .2)", 2.4);
    stroke(paths.seen, "rgba(255, 255, 255, .8)", 1.1);
    stroke(paths.mine, "rgba(0, 0, 0, .3)", 4);
    stroke(paths.mine, "#ffffff", 2.2);
}

function drawBalls(pen, state) {
    const { context } = pen;
    for (const { k, x, y, radius, hidden, away, sample } of state.seen) {
        const chosen = k === state.chosen, r = chosen ? radius * 1.2 : radius;
        context.globalAlpha = hidden ? 0.45 : 1;
        const fill = context.createRadialGradient(x - r * 0.35, y - r * 0.4, r * 0.1, x, y, r), there = away < state.near;
        const [bright, colour] = there ? [pen.sample(sample), pen.sample(sample)] : k === state.start ? ["#ffd469", "#d99a00"] : ["#ece8de", "#b9b4a8"];
        [[0, "#ffffff"], [0.45, bright], [1, colour]].forEach(stop => fill.addColorStop(...stop));
        if (!hidden) pen.disc(x + 1, y + 2, r + 0.5, { fill: "rgba(0, 0, 0, .35)" });
        pen.disc(x, y, r, { fill, stroke: "rgba(0, 0, 0, .75)", line: 0.8 });
        if (chosen) pen.disc(x, y, r + 3.5, { stroke: "#111111", line: 4 });
        if (chosen) pen.disc(x, y, r + 3.5, { stroke: "#ffffff", line: 2 });
        context.globalAlpha = 1;
    }
}

// A pole in each sample's well with its marker on top: first what stands behind the relief, then the rest.
function drawFlags(pen, state, front) {
    const { relief, samples } = state;
    for (let i = 0; i < 3; i++) {
        const p = samples.subarray(3 * i, 3 * i + 3), foot = tall(relief.under(...p, state.shown));
        const points = Array.from({ length: 13 }, (_, k) => relief.project(relief.stand(...p, foot + 0.02 + k * 0.036)));
        const [x, y] = points.at(-1), hidden = points.map(point => relief.hides(...point)), gone = hidden.at(-1);
        for (let k = 1; k < points.length; k++) {
            if (hidden[k] === front) continue;
            pen.line([points[k - 1], points[k]].map(([px, py]) => [px, py]), front ? "#ffffff" : pen.faint, front ? 1.6 : 1);
        }
        if (gone === front) continue;
        pen.context.globalAlpha = gone ? 0.4 : 1;
        pen.marker(i, x, y, 8);
        pen.text(`sample ${i + 1}`, x + 13, y + 4, { size: 12, halo: true });
        pen.context.globalAlpha = 1;
    }
}

function drawLegend(pen, { x, y, tall: high }) {
    const { context } = pen, fill = context.createLinearGradient(0, y + high, 0, y);
    for (let k = 0; k <= 10; k++) fill.addColorStop(k / 10, `rgb(${depthColour((k / 10) ** 2)})`);
    pen.box(x, y, 10, high, { fill, stroke: pen.faint });
    for (const level of [0, 0.25, 1]) pen.text(String(level), x + 15, y + high * (1 - tall(level)) + 4, { size: 11, colour: pen.soft });
    pen.text("misfit", x, y + high + 16, { size: 11, colour: pen.soft });
}

function drawPanel(pen, state, { ghost, note, photos }) {
    const ball = state.seen.find(({ k }) => k === state.chosen), there = ball && ball.away < state.near;
    const large = ghost.side > 100, title = { size: 12, colour: pen.soft };
    pen.text(large ? "the ringed ball stands for" : "ringed ball", ghost.x, ghost.y - 9, title);
    state.real = Boolean(ball) && developGhost(state, ball.at, state.ghost);
    drawGhost(pen, state.real, state.ghost, ghost, there ? pen.sample(ball.sample) : pen.faint, there ? 4 : 1);
    if (ball) pen.text(`misfit ${inWords(ball.misfit)}`, note.x, note.y, { size: 13, bold: there });
    pen.text("the private photographs", photos.x, photos.y - 9, title);
    for (let i = 0; i < 3; i++) {
        const x = photos.x + i * photos.step, count = state.seen.filter(b => b.sample === i && b.away < state.near).length;
        pen.picture(bitmap(state.photos, i), x, photos.y, photos.side, photos.side);
        pen.marker(i, x + 10, photos.y + 10, 6);
        pen.text(`${count} ball${count === 1 ? "" : "s"}`, x + photos.side / 2, photos.y + photos.side + 16, { size: 12, align: "center", bold: count > 0 });
    }
}

// ---------------------------------------------------------------- touching
const inside = ({ relief }, { x, y }) => x >= relief.x && x < relief.x + relief.width && y >= relief.y && y < relief.y + relief.height;

const ballAt = (state, { x, y }) => state.seen.findLast(ball => Math.hypot(ball.x - x, ball.y - y) < ball.radius + 5);

function grab(state, from) {
    if (!state.at || !inside(state.at, from)) return null;
    const mine = ballAt(state, from)?.k === state.start && state.start >= 0;
    let [last, far] = [from, 0];
    return {
        move(to) {
            far += Math.hypot(to.x - last.x, to.y - last.y);
            const direction = mine && state.relief.at(to.x, to.y);
            if (direction) startAt(state, direction);
            if (!mine && far > 4) {
                Object.assign(state, { held: true, speed: [0, 0], over: null });
                turnBy(state, (to.x - last.x) * 0.4, (to.y - last.y) * 0.4);
            }
            last = to;
        },
        drop(speed) {
            state.held = false;
            if (mine) go(state.run, 0, far > 4);
            else if (far > 4) state.speed = [speed.x * 0.4, speed.y * 0.4];
            else tap(state, from);
        },
    };
}

// A ball is looked at; elsewhere a ball of the reader's starts.
function tap(state, at) {
    const ball = ballAt(state, at), direction = ball ? null : state.relief.at(at.x, at.y);
    if (ball) state.chosen = ball.k;
    if (!direction) return;
    startAt(state, direction);
    go(state.run, 0, true);
}

function hover(state, at) {
    const direction = at && state.at && !state.held && inside(state.at, at) && state.relief.at(at.x, at.y), before = state.over;
    state.over = direction ? { ...at, misfit: state.relief.under(...direction, state.shown) } : null;
    return Boolean(before || state.over);
}

// The reader's start one step over the relief as it is seen; the first is in the middle.
function shift(state, right, down) {
    const [x, y, width] = state.start < 0 ? [] : state.relief.project(arc(state, state.start));
    const { relief: box } = state.at, step = 10;
    const direction = state.relief.at(...(state.start < 0 ? [box.x + box.width / 2, box.y + box.height / 2] : [x + step * right, y + step * down]), width);
    if (direction) startAt(state, direction);
}

function key(state, name) {
    const turned = { ArrowLeft: [-6, 0], ArrowRight: [6, 0], ArrowUp: [0, -6], ArrowDown: [0, 6] }[name];
    const moved = { a: [-1, 0], d: [1, 0], w: [0, -1], s: [0, 1] }[name];
    if (turned) turnBy(state, ...turned);
    else if (moved) shift(state, ...moved);
    else if (name === "n") next(state);
    else return runKey(state.run, name);
    return true;
}

function next(state) {
    const all = shownOnes(state);
    state.chosen = all[(all.indexOf(state.chosen) + 1) % all.length];
}

function setBalls(state, balls) {
    state.balls = balls;
    if (state.chosen >= balls && state.chosen !== state.start) state.chosen = 0;
}

// ---------------------------------------------------------------- words
const several = (count, thing, more = `${thing}s`) => `${count} ${count === 1 ? thing : more}`;

function words(state) {
    const { seen, units, equations, near, run } = state;
    if (!equations) return `The server sees ${several(units, "unit")} of the next layer, and b = 3: every direction fits. The relief is flat, and no ball has anywhere to go.`;
    const counted = seen.filter(({ k }) => k < state.free), there = [0, 1, 2].map(i => counted.filter(b => b.sample === i && b.away < near).length);
    const all = there.reduce((a, b) => a + b, 0), ball = seen.find(({ k }) => k === state.chosen), place = run.at >= run.counts.length ? "After the finish" : run.at < 1 ? "At the start" : `After ${after(run.at, run.counts)}`;
    const whose = state.chosen === state.start ? "Your ball" : `Ball ${state.chosen + 1}, ringed,`;
    const stands = ball && ` ${whose} stands at misfit ${inWords(ball.misfit)}, ${ball.away < near ? `at sample ${ball.sample + 1}` : `${ball.away.toFixed(0)}° from sample ${ball.sample + 1}`}${state.real ? "" : ", where no input lies"}.`;
    if (run.at < 1 && state.start < 0 && !run.playing) return `${several(counted.length, "search starts at a random direction, as a ball", "searches start at random directions, as balls")} on the relief of the misfit. Play lets them go; drag to turn and tilt; tap anywhere, and a ball of your own starts there.`;
    return `${several(units, "unit")} seen, ${several(equations, "equation")}. ${place} ${all} of ${several(counted.length, "ball")} ${all === 1 ? "is" : "are"} within ${near}° of a sample.${stands ?? ""}`;
}

export default stage({
    name: "wells-stage",
    label: "The misfit over all directions as a relief with searches that roll over it as balls. Arrows turn and tilt it, "
        + "space plays, W A S D move a ball of your own, N rings the next ball.",
    height, begin, draw, words, grab, hover, key,
    controls: [
        ...runControls,
        button("Next ball", next),
        slider("balls", state => [1, state.free], state => state.balls, setBalls),
        slider("turn", [-180, 180], state => Math.round(state.spin), (state, spin) => { state.spin = spin; }, { text: state => `${Math.round(state.spin)}°` }),
        slider("tilt", state => [LOWEST[state.shape], 90], state => Math.round(state.tilt), (state, tilt) => { state.tilt = tilt; }, { text: state => `${Math.round(state.tilt)}°` }),
        choice("shape", SHAPES, state => state.shape, reshape),
        check("paths", state => state.trails, (state, trails) => { state.trails = trails; }),
    ],
    told: ({ run, spin, tilt, shape, balls, trails, chosen, start }) => ({ at: run.at, spin, tilt, shape, balls, trails, chosen, start }),
});
