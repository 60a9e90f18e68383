// Plays what Python has drawn: a slider, a button, the keys of both, and links that lead to a position. Shows what
// answers a question when it has been answered. Tells stages, which are pages of their own, whether this page is dark.
// A link's end is #NAME:ROW:POSITION.
"use strict";

const SECONDS = 0.7; // that each position stays while it plays
const DARK = "$DARK"; // what a colour on white paper becomes in the dark, from players.py: the rows of a matrix

function element(tag, text = "", more = {}) {
    return Object.assign(document.createElement(tag), { textContent: text }, more);
}

// A choice above a figure, if it has one; `chosen` hears the number of an option.
function chooser(about, chosen) {
    if (about.choice === null) return null;
    const label = element("label", about.choice), select = element("select");
    select.append(...about.choices.map((text, k) => new Option(text, k, false, k === about.first)));
    select.addEventListener("input", () => chosen(Number(select.value)));
    label.append(select);
    return label;
}

function bar(figure, ...inside) {
    const made = element("div", "", { className: "spear-bar" });
    made.append(...inside.filter(Boolean));
    if (made.children.length) figure.querySelector("figcaption").after(made);
}

// A link may be written down again and again while a slider is dragged; browsers allow few in a row.
let noted = null;
function note(address) {
    clearTimeout(noted);
    noted = setTimeout(() => history.replaceState(null, "", address), 300);
}

const between = (value, low, high) => Math.min(Math.max(Number(value) || 0, low), high);

// ---------------------------------------------------------------- players
function player(figure) {
    const about = JSON.parse(figure.querySelector("script").textContent), words = figure.querySelector(".spear-words");
    const sheet = figure.querySelector(".spear-sheet"), charts = figure.querySelector(".spear-charts");
    const folder = sheet.querySelector("img").getAttribute("src").replace(/[^/]*$/, "");
    let row = about.first, at = about.rows[row].start, timer = null;

    const slider = element("input", "", { type: "range", min: 0, step: 1 }), shown = element("output");
    const track = element("label", "", { className: "spear-grow" });
    slider.setAttribute("aria-label", about.label);
    track.append(about.label, slider, shown);
    const [back, play, on] = [["◀", "Step back"], ["Play", ""], ["▶", "Step forward"]].map(([text, label]) => {
        const made = element("button", text, { type: "button" });
        if (label) made.setAttribute("aria-label", label);
        return made;
    });
    const choice = chooser(about, k => { stop(); go(k, about.rows[k].start); });
    const buttons = element("span", "", { className: "spear-group" });
    buttons.append(back, play, on);
    bar(figure, choice, track, buttons);

    const picture = (number, more = {}) => Object.assign(new Image(), { src: `${folder}${number}.webp`, alt: "", ...more });
    const known = new Map(); // the layers that were shown, so that going back is instant
    const layer = number => known.get(number) ?? known.set(number, picture(number, { width: 960 })).get(number);

    // The layers of a position appear together, once all of them are there.
    async function draw() {
        const [wantedRow, wantedAt] = [row, at], [photographs, ...below] = about.rows[row].frames[at];
        const [under, over] = [below.map(layer), photographs < 0 ? [] : [layer(photographs)]];
        await Promise.all([...under, ...over].map(image => image.decode().catch(() => {})));
        if (wantedRow !== row || wantedAt !== at) return;
        charts.replaceChildren(...under);
        sheet.replaceChildren(charts, ...over);
        sheet.dataset.shown = `${row}:${at}`;
        for (const near of [at - 1, at + 1]) about.rows[row].frames[near]?.forEach(number => number < 0 || layer(number));
    }
    function show() {
        const { names, words: said } = about.rows[row];
        words.innerHTML = said[at];
        slider.max = names.length - 1;
        slider.value = at;
        shown.textContent = names[at];
        slider.setAttribute("aria-valuetext", names[at]);
        [back.disabled, on.disabled] = [at === 0, at === names.length - 1];
    }
    function go(newRow, position) {
        row = between(newRow, 0, about.rows.length - 1);
        at = between(position, 0, last());
        show();
        draw();
        note(`#${figure.id}:${row}:${at}`);
    }
    function stop() {
        clearInterval(timer);
        timer = null;
        play.textContent = "Play";
    }
    const last = () => about.rows[row].names.length - 1;
    slider.addEventListener("input", () => { stop(); go(row, slider.value); });
    back.addEventListener("click", () => { stop(); go(row, at - 1); });
    on.addEventListener("click", () => { stop(); go(row, at + 1); });
    play.addEventListener("click", () => {
        if (timer) return stop();
        timer = setInterval(() => (at < last() ? go(row, at + 1) : stop()), 1000 * SECONDS);
        play.textContent = "Stop";
        go(row, at < last() ? at : 0);
    });
    figure.go = (newRow, position) => {
        if (choice) choice.querySelector("select").value = between(newRow, 0, about.rows.length - 1);
        stop();
        go(newRow, position);
    };
    const wide = figure.querySelector(".spear-wide"); // what can be scrolled, can be by keyboard
    new ResizeObserver(() => {
        if (wide.scrollWidth > wide.clientWidth) wide.tabIndex = 0;
        else wide.removeAttribute("tabindex");
    }).observe(wide);
    show();
}

// Charts turn over as in a notebook: each colour by a matrix, on a page that is dark.
function darkening() {
    const made = document.createElement("div");
    made.innerHTML = `<svg width="0" height="0" aria-hidden="true" style="position: absolute"><filter id="spear-dark"
        color-interpolation-filters="sRGB"><feColorMatrix values="${DARK}"/></filter></svg>`;
    document.body.append(made.firstChild);
}

// ---------------------------------------------------------------- stages
const scheme = () => (document.documentElement.dataset.theme === "dark" ? "dark" : "light");

function stage(figure) {
    const about = JSON.parse(figure.querySelector("script").textContent), words = figure.querySelector(".spear-words");
    const choice = chooser(about, k => figure.go(k));
    bar(figure, choice);
    figure.go = chosen => {
        const k = between(chosen, 0, about.choices.length - 1), frame = figure.querySelector("iframe");
        const next = frame.cloneNode(); // a frame that is sent elsewhere makes steps in the history; a new one does not
        next.loading = "eager";
        next.src = frame.getAttribute("src").replace(/[^/]*$/, `${k}.html`);
        frame.replaceWith(next);
        if (words) words.innerHTML = about.words[k];
        if (choice) choice.querySelector("select").value = k;
        note(`#${figure.id}:${k}:0`);
    };
}

addEventListener("message", ({ source, data }) => {
    const frame = [...document.querySelectorAll(".spear-live iframe")].find(f => f.contentWindow === source);
    if (!frame || typeof data?.height !== "number") return;
    frame.height = Math.ceil(data.height);
    source.postMessage({ scheme: scheme() }, "*");
});

// ---------------------------------------------------------------- questions
function question(box, number) {
    const [said, list, details] = [box.querySelector("p"), box.querySelector("ul"), box.querySelector("details")];
    const form = element("form"), options = element("fieldset"), told = element("div"), measured = details.querySelector("b");
    const legend = element("legend"), answer = element("button", "This is my answer", { type: "submit", disabled: true });
    legend.append(...said.childNodes);
    options.append(legend, ...[...list.children].map(item => {
        const label = element("label"), radio = element("input", "", { type: "radio", name: `question-${number}`, value: item.textContent });
        label.append(radio, ...item.childNodes);
        return label;
    }));
    told.setAttribute("role", "status");
    form.append(options, answer, told);
    box.replaceChildren(form);
    form.addEventListener("input", () => { answer.disabled = false; });
    form.addEventListener("submit", event => {
        event.preventDefault();
        const yours = form.querySelector("input:checked").value, right = yours === measured.textContent;
        told.replaceChildren(element("b", right ? "✔ Right." : "✘ Not so."), ` You said: ${yours}. Answer: `,
            ...details.querySelector("p").cloneNode(true).childNodes);
        for (const veil of document.querySelectorAll(".spear-veil")) {
            if (!box.dataset.asks || veil.dataset.waits !== box.dataset.asks) continue;
            veil.querySelector("summary").textContent = `${right ? "✔" : "✘"} You said: ${yours}. Answer: ${measured.textContent}.`;
            veil.open = true;
        }
    });
}

// ---------------------------------------------------------------- the page
function follow() {
    const [name, row, position] = decodeURIComponent(location.hash.slice(1)).split(":");
    const figure = position === undefined ? null : document.getElementById(name);
    if (!figure?.go) return;
    for (let cover = figure.closest("details"); cover; cover = cover.parentElement.closest("details")) cover.open = true;
    figure.go(row, position);
    figure.scrollIntoView();
}

addEventListener("DOMContentLoaded", () => {
    darkening();
    document.querySelectorAll(".spear-player").forEach(player);
    document.querySelectorAll(".spear-live").forEach(stage);
    document.querySelectorAll(".spear-predict").forEach(question);
    follow();
    addEventListener("hashchange", follow);
    new MutationObserver(() => {
        for (const frame of document.querySelectorAll(".spear-live iframe"))
            frame.contentWindow?.postMessage({ scheme: scheme() }, "*");
    }).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
});
