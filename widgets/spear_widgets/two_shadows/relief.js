// A misfit over all directions of a sphere as a relief: laid out flat, or on the ball that it is. It turns and tilts.
//
// The mesh has `rings` + 1 rings of `sectors` directions (x, y, z) around z, and the misfit at each. Laid out, distances
// from the middle are 2 sin(θ/2), which keeps areas (Lambert 1772); the rim is the one direction opposite to the middle.
import { clamp, mix } from "../kit/stage.js";
import { depthColour } from "./walk.js";

const TALL = 1.4; // height of misfit 1 where the sphere, laid out, has radius 2
const BALL = 1.5; // radius of the ball at misfit 1
const DENT = 0.42; // share of that radius that a well is deep
const WALL = [0.5, 0.1]; // the wall around the disc goes down to half of its height, and a little further
const FAR = 12; // of the eye, in the same lengths
const LIGHT_FROM = [-0.5, 0.55, 0.67]; // right, up, towards the eye
const SHADES = 64;
const LINES = 10; // contour lines between misfit 0 and 1

// Height by misfit: its root, which lets wells be seen as deep as they are wide.
export const tall = misfit => Math.sqrt(Math.max(0, misfit));

export class Relief {
    constructor({ rings, sectors, places, misfit }) {
        const count = misfit.length + sectors; // the last ring is the foot of the wall around it
        Object.assign(this, { rings: rings + 1, sectors, places, misfit, count, key: "" });
        this.points = new Float32Array(3 * count);
        this.normals = new Float32Array(3 * count);
        for (const name of ["sx", "sy", "depth", "tone", "light"]) this[name] = new Float32Array(count);
        [this.canvas, this.print] = [document.createElement("canvas"), document.createElement("canvas")];
    }

    // Where a direction stands in space at a height, on the way from the ball (flat = 0) to the disc (flat = 1).
    stand(x, y, z, height, out = [], k = 0) {
        const { flat } = this, across = Math.hypot(x, y), spread = across > 0 ? Math.sqrt(Math.max(0, 2 - 2 * z)) / across : 0;
        const radius = BALL * (1 + DENT * (height - 1));
        out[k] = mix(x * radius, x * spread, flat);
        out[k + 1] = mix(y * radius, y * spread, flat);
        out[k + 2] = mix(z * radius, TALL * (height - this.peak / 2), flat);
        return out;
    }

    // Stand up: `misfit` may be another one than the data's, on the way to it.
    shape(flat, misfit = this.misfit) {
        const { rings, sectors, places, points, normals, tone } = this, rim = misfit.length - sectors;
        this.flat = flat;
        this.peak = tall(misfit.reduce((a, b) => Math.max(a, b)));
        for (let i = 0; i < this.count; i++) {
            const at = i < misfit.length ? i : i - sectors, high = i === at ? tall(misfit[at]) : mix(tall(misfit[at]), this.peak * WALL[0] - WALL[1], flat);
            this.stand(places[3 * at], places[3 * at + 1], places[3 * at + 2], high, points, 3 * i);
            tone[i] = 255 * clamp(misfit[at], 0, 1);
        }
        for (let ring = 1; ring < rings - 1; ring++) {
            for (let j = 0; j < sectors; j++) {
                const next = (j + 1) % sectors, before = (j + sectors - 1) % sectors;
                this.normal(ring * sectors + j, (ring + 1) * sectors + j, (ring - 1) * sectors + j, ring * sectors + next, ring * sectors + before);
            }
        }
        normals.copyWithin(3 * rim, 3 * (rim - sectors), 3 * rim);
        const middle = [0, 0, 0];
        for (let i = 3 * sectors; i < 6 * sectors; i++) middle[i % 3] += normals[i] / sectors;
        for (let i = 0; i < 3 * sectors; i++) normals[i] = middle[i % 3];
        this.key = "";
    }

    normal(i, outer, inner, left, right) {
        const p = this.points, n = this.normals;
        const [ax, ay, az] = [0, 1, 2].map(k => p[3 * outer + k] - p[3 * inner + k]);
        const [bx, by, bz] = [0, 1, 2].map(k => p[3 * left + k] - p[3 * right + k]);
        const [x, y, z] = [ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], size = Math.hypot(x, y, z) || 1;
        n[3 * i] = x / size;
        n[3 * i + 1] = y / size;
        n[3 * i + 2] = z / size;
    }

    // The eye: spin around z and tilt above the rim in degrees, into a box of the canvas.
    look(spin, tilt, { x, y, width, height }) {
        const [a, e] = [spin * Math.PI / 180, tilt * Math.PI / 180], [ca, sa, ce, se] = [Math.cos(a), Math.sin(a), Math.cos(e), Math.sin(e)];
        this.axes = [[ca, -sa, 0], [sa * se, ca * se, ce], [-sa * ce, -ca * ce, se]]; // right, up, towards the eye
        const rise = TALL * this.peak / 2 * ce, fall = Math.max(2 * se + TALL * WALL[1] * ce, 0.9 * se + rise); // from the middle
        const [up, down] = [mix(BALL, 2 * se + rise, this.flat), mix(BALL, fall, this.flat)];
        this.unit = Math.min(width / (2.2 * mix(BALL, 2, this.flat)), height / (1.09 * (up + down)));
        this.box = { x, y, width, height };
        this.middle = [x + width / 2, y + height / 2 + this.unit * (up - down) / 2];
    }

    // A point in space → [x, y] on the canvas and its depth, larger when nearer.
    project(p, k = 0) {
        const [r, u, t] = this.axes, [x, y, z] = [p[k], p[k + 1], p[k + 2]];
        const depth = x * t[0] + y * t[1] + z * t[2], scale = this.unit * FAR / (FAR - depth);
        return [
            this.middle[0] + scale * (x * r[0] + y * r[1] + z * r[2]),
            this.middle[1] - scale * (x * u[0] + y * u[1] + z * u[2]), depth,
        ];
    }

    // Whether the relief hides a point of the canvas at this depth.
    hides(x, y, depth, slack = 0.05) {
        const { nearest, across, down, fine, box } = this;
        const column = Math.round((x - box.x) * fine), row = Math.round((y - box.y) * fine);
        return column >= 0 && row >= 0 && column < across && row < down && nearest[row * across + column] > depth + slack;
    }

    // Paint it, if anything has changed, and put it on the canvas: in `fine` pixels per CSS pixel, or at rest in twice as
    // many as the device has, which makes edges smooth.
    draw(pen, fine, rest) {
        const { x, y, width, height } = this.box, { canvas, print } = this, device = window.devicePixelRatio || 1;
        const key = [...this.axes.flat(), width, height, fine, rest, device].join();
        if (key !== this.key) {
            const scale = rest ? Math.max(2, device) : fine;
            this.paint(Math.round(width * scale), Math.round(height * scale), scale);
            if (rest) {
                Object.assign(print, { width: Math.round(width * device), height: Math.round(height * device) }); // clears it
                print.getContext("2d").drawImage(canvas, 0, 0, print.width, print.height);
            }
        }
        this.key = key;
        pen.context.imageSmoothingEnabled = !rest;
        pen.context.drawImage(rest ? print : canvas, x, y, width, height);
    }

    paint(across, down, fine) {
        if (this.across !== across || this.down !== down) {
            Object.assign(this.canvas, { width: across, height: down });
            this.image = new ImageData(across, down);
            this.pixels = new Uint32Array(this.image.data.buffer);
            this.nearest = new Float32Array(across * down);
            this.tones = new Uint8Array(across * down);
            this.shades = new Uint8Array(across * down);
        }
        Object.assign(this, { across, down, fine });
        this.pixels.fill(0);
        this.nearest.fill(-Infinity);
        this.placeAll();
        const { rings, sectors } = this, fill = this.filler();
        for (let ring = 0; ring < rings; ring++) {
            for (let j = 0; j < sectors; j++) {
                const a = ring * sectors + j, d = ring * sectors + ((j + 1) % sectors);
                fill(a, a + sectors, d + sectors);
                fill(a, d + sectors, d);
            }
        }
        this.contours(Math.max(1, Math.round(fine * 0.8)));
        this.canvas.getContext("2d").putImageData(this.image, 0, 0);
    }

    // All vertices on the picture, in its pixels, with their light; the wall's is that of its outside.
    placeAll() {
        const { points, normals, sx, sy, depth, light, axes: [r, u, t], box, middle, unit, fine, sectors } = this;
        const [lx, ly, lz] = [0, 1, 2].map(k => LIGHT_FROM[0] * r[k] + LIGHT_FROM[1] * u[k] + LIGHT_FROM[2] * t[k]);
        const [left, top] = [(middle[0] - box.x) * fine - 0.5, (middle[1] - box.y) * fine - 0.5], wall = this.count - sectors;
        for (let i = 0, k = 0; i < this.count; i++, k += 3) {
            const x = points[k], y = points[k + 1], z = points[k + 2], d = x * t[0] + y * t[1] + z * t[2];
            const scale = fine * unit * FAR / (FAR - d);
            sx[i] = left + scale * (x * r[0] + y * r[1] + z * r[2]);
            sy[i] = top - scale * (x * u[0] + y * u[1] + z * u[2]);
            depth[i] = d;
            const a = normals[k], b = normals[k + 1], c = normals[k + 2], lit = a * lx + b * ly + c * lz;
            const away = a * t[0] + b * t[1] + c * t[2] < -0.1;
            light[i] = (SHADES - 1) * (away ? 0.4 - 0.1 * lit : 0.42 + 0.58 * Math.max(0, lit));
            if (i >= wall) light[i] = (SHADES - 1) * (0.26 + 0.12 * (x * lx + y * ly));
        }
    }

    // A function that fills the triangle of three vertices, where nothing nearer is.
    filler() {
        const { sx, sy, depth, tone, light, nearest, pixels, tones, shades, across, down } = this;
        return (a, b, c) => {
            const ax = sx[a], ay = sy[a], bx = sx[b] - ax, by = sy[b] - ay, cx = sx[c] - ax, cy = sy[c] - ay;
            const area = bx * cy - cx * by;
            if (area < 1e-6 && area > -1e-6) return;
            const left = Math.max(0, Math.ceil(ax + Math.min(0, bx, cx))), right = Math.min(across - 1, Math.floor(ax + Math.max(0, bx, cx)));
            const top = Math.max(0, Math.ceil(ay + Math.min(0, by, cy))), bottom = Math.min(down - 1, Math.floor(ay + Math.max(0, by, cy)));
            const stepB = cy / area, stepC = -by / area; // of the shares of b and c, a pixel to the right
            const da = depth[a], db = depth[b] - da, dc = depth[c] - da, ta = tone[a], tb = tone[b] - ta, tc = tone[c] - ta;
            const la = light[a], lb = light[b] - la, lc = light[c] - la;
            for (let y = top; y <= bottom; y++) {
                let shareB = ((left - ax) * cy - cx * (y - ay)) / area, shareC = (bx * (y - ay) - (left - ax) * by) / area;
                for (let x = left, k = y * across + left; x <= right; x++, k++, shareB += stepB, shareC += stepC) {
                    if (shareB < -1e-5 || shareC < -1e-5 || shareB + shareC > 1.00001) continue;
                    const d = da + shareB * db + shareC * dc;
                    if (d <= nearest[k]) continue;
                    nearest[k] = d;
                    const shade = la + shareB * lb + shareC * lc, colour = ta + shareB * tb + shareC * tc;
                    tones[k] = colour;
                    shades[k] = shade;
                    pixels[k] = TINTS[(shade << 8) | colour];
                }
            }
        };
    }

    // Darken where the misfit passes one of its levels between a pixel and the one right of it or below.
    contours(thick) {
        const { pixels, tones, shades, across, down } = this;
        for (let y = 0; y < down - thick; y++) {
            for (let x = 0, k = y * across; x < across - thick; x++, k++) {
                if (!pixels[k]) continue;
                const level = LEVELS[tones[k]], beside = k + thick, below = k + thick * across;
                if ((pixels[beside] && LEVELS[tones[beside]] !== level) || (pixels[below] && LEVELS[tones[below]] !== level)) {
                    pixels[k] = TINTS[((shades[k] * 0.72) << 8) | tones[k]];
                }
            }
        }
    }

    // The direction that is seen at a point of the canvas, or null.
    at(x, y) {
        const { sx, sy, depth, places, sectors, box, fine } = this, rings = this.rings - 1, [px, py] = [(x - box.x) * fine - 0.5, (y - box.y) * fine - 0.5];
        let best = -Infinity, found = null;
        const meet = (a, b, c) => {
            const area = (sx[b] - sx[a]) * (sy[c] - sy[a]) - (sx[c] - sx[a]) * (sy[b] - sy[a]);
            const shareB = ((px - sx[a]) * (sy[c] - sy[a]) - (sx[c] - sx[a]) * (py - sy[a])) / area;
            const shareC = ((sx[b] - sx[a]) * (py - sy[a]) - (px - sx[a]) * (sy[b] - sy[a])) / area;
            if (!(shareB >= -1e-6 && shareC >= -1e-6 && shareB + shareC <= 1.000001)) return;
            const d = depth[a] + shareB * (depth[b] - depth[a]) + shareC * (depth[c] - depth[a]);
            if (d > best) [best, found] = [d, [[a, 1 - shareB - shareC], [b, shareB], [c, shareC]]];
        };
        for (let ring = 0; ring < rings; ring++) {
            for (let j = 0; j < sectors; j++) {
                const a = ring * sectors + j, next = ring * sectors + ((j + 1) % sectors);
                meet(a, a + sectors, next + sectors);
                meet(a, next + sectors, next);
            }
        }
        if (!found) return null;
        const p = [0, 1, 2].map(k => found.reduce((sum, [i, share]) => sum + share * places[3 * i + k], 0)), size = Math.hypot(...p);
        return p.map(v => v / size);
    }

    // The misfit at a direction, between those of the mesh.
    under(x, y, z, misfit = this.misfit) {
        const { sectors } = this, rings = this.rings - 1, ring = Math.sqrt(Math.max(0, (1 - z) / 2)) * rings;
        const turn = ((Math.atan2(y, x) / (2 * Math.PI) + 1) % 1) * sectors;
        const i = Math.min(rings - 1, Math.floor(ring)), j = Math.floor(turn) % sectors, next = (j + 1) % sectors;
        const inner = mix(misfit[i * sectors + j], misfit[i * sectors + next], turn - Math.floor(turn));
        const outer = mix(misfit[(i + 1) * sectors + j], misfit[(i + 1) * sectors + next], turn - Math.floor(turn));
        return mix(inner, outer, clamp(ring - i, 0, 1));
    }
}

const LEVELS = Uint8Array.from({ length: 256 }, (_, tone) => Math.floor(LINES * tone / 255.001));

// Pixels by shade and tone: alpha, blue, green, red.
const TINTS = new Uint32Array(SHADES * 256);
for (let shade = 0; shade < SHADES; shade++) {
    for (let tone = 0; tone < 256; tone++) {
        const bright = shade / (SHADES - 1), [r, g, b] = depthColour(tone / 255).map(c => clamp(c * (0.16 + 0.9 * bright), 0, 255));
        TINTS[(shade << 8) | tone] = (255 << 24) | (b << 16) | (g << 8) | r;
    }
}
