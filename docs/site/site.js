// Plays what Python has drawn: a slider, a button, the keys of both, and links that lead to a position.
// A link's end is #NAME:ROW:POSITION. Also tells stages, which are pages of their own, whether this page is dark.
"use strict";

const SECONDS = 0.7; // that each position stays while it plays

function element(tag, text = "", more = {}) {
    return Object.assign(document.createElement(tag), { textContent: text }, more);
}

function player(figure) {
    const about = JSON.parse(figure.querySelector("script").textContent), image = figure.querySelector("img");
    const words = figure.querySelector(".spear-words"), bar = element("div", "", { className: "spear-bar" });
    const folder = image.getAttribute("src").replace(/[^/]*$/, "");
    let row = about.first, at = about.rows[row].start, timer = null, noted = null, touched = false;

    const slider = element("input", "", { type: "range", min: 0, step: 1 }), shown = element("output");
    const track = element("label", "", { className: "spear-grow" });
    slider.setAttribute("aria-label", about.label);
    track.append(about.label, slider, shown);
    const [back, play, on] = [["◀", "Step back"], ["Play", ""], ["▶", "Step forward"]].map(([text, label]) => {
        const made = element("button", text, { type: "button" });
        if (label) made.setAttribute("aria-label", label);
        return made;
    });
    if (about.choice !== null) {
        const label = element("label", about.choice), select = element("select");
        select.append(...about.choices.map((text, k) => new Option(text, k, false, k === row)));
        select.addEventListener("input", () => { stop(); go(Number(select.value), about.rows[select.value].start); });
        label.append(select);
        bar.append(label);
        figure.choose = k => { select.value = k; };
    }
    const buttons = element("span", "", { className: "spear-group" });
    buttons.append(back, play, on);
    bar.append(track, buttons);
    figure.querySelector("figcaption").after(bar);

    function show() {
        const { names, words: said } = about.rows[row];
        image.src = `${folder}${row}-${at}.webp`;
        words.innerHTML = said[at];
        slider.max = names.length - 1;
        slider.value = at;
        shown.textContent = names[at];
        slider.setAttribute("aria-valuetext", names[at]);
        [back.disabled, on.disabled] = [at === 0, at === names.length - 1];
        if (!touched) return;
        for (const near of [at - 1, at + 1]) if (near in names) new Image().src = `${folder}${row}-${near}.webp`;
    }
    function go(newRow, position) {
        row = Math.min(Math.max(newRow, 0), about.rows.length - 1);
        at = Math.min(Math.max(position, 0), about.rows[row].names.length - 1);
        touched = true;
        show();
        clearTimeout(noted); // browsers allow few changes of an address in a row
        noted = setTimeout(() => history.replaceState(null, "", `#${figure.id}:${row}:${at}`), 300);
    }
    function stop() {
        clearInterval(timer);
        timer = null;
        play.textContent = "Play";
    }
    const last = () => about.rows[row].names.length - 1;
    slider.addEventListener("input", () => { stop(); go(row, Number(slider.value)); });
    back.addEventListener("click", () => { stop(); go(row, at - 1); });
    on.addEventListener("click", () => { stop(); go(row, at + 1); });
    play.addEventListener("click", () => {
        if (timer) return stop();
        timer = setInterval(() => (at < last() ? go(row, at + 1) : stop()), 1000 * SECONDS);
        play.textContent = "Stop";
        go(row, at < last() ? at : 0);
    });
    figure.go = (newRow, position) => { figure.choose?.(newRow); stop(); go(newRow, position); };
    show();
}

// ---------------------------------------------------------------- links to a position
function follow() {
    const [name, row, position] = decodeURIComponent(location.hash.slice(1)).split(":");
    const figure = position === undefined ? null : document.getElementById(name);
    if (!figure?.go) return;
    for (let cover = figure.closest("details"); cover; cover = cover.parentElement.closest("details")) cover.open = true;
    figure.go(Number(row) || 0, Number(position) || 0);
    figure.scrollIntoView();
}

// ---------------------------------------------------------------- stages
const scheme = () => (document.documentElement.dataset.theme === "dark" ? "dark" : "light");

addEventListener("message", ({ source, data }) => {
    const frame = [...document.querySelectorAll(".spear-live iframe")].find(f => f.contentWindow === source);
    if (!frame || typeof data?.height !== "number") return;
    frame.height = Math.ceil(data.height);
    source.postMessage({ scheme: scheme() }, "*");
});

addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll(".spear-player").forEach(player);
    follow();
    addEventListener("hashchange", follow);
    new MutationObserver(() => {
        for (const frame of document.querySelectorAll(".spear-live iframe"))
            frame.contentWindow.postMessage({ scheme: scheme() }, "*");
    }).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
});
