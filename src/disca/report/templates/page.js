"use strict";

// Sorting: a click sorts by a column, another click turns it round. Empty cells stay last.
for (const button of document.querySelectorAll("#rows thead button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement;
    const column = [...head.parentElement.children].indexOf(head);
    const falling = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const body = document.querySelector("#rows tbody");
    body.append(...[...body.children].sort((a, b) => compare(a.children[column], b.children[column], button, falling)));
  });
}

function compare(a, b, button, falling) {
  const sign = falling ? -1 : 1;
  if (button.dataset.kind === "text") return sign * a.textContent.localeCompare(b.textContent);
  if (!a.dataset.value || !b.dataset.value) return Boolean(b.dataset.value) - Boolean(a.dataset.value);
  const [x, y] = [Number(a.dataset.value), Number(b.dataset.value)];
  return x === y ? 0 : sign * (x < y ? -1 : 1);
}

// Columns: where all of them do not fit, the main ones come first, and a button shows the others.
const table = document.getElementById("rows");
const more = document.getElementById("columns");
const button = more.querySelector("button");
const fit = () => {
  const all = button.getAttribute("aria-pressed") === "true";
  table.classList.remove("few");
  const tight = table.scrollWidth > table.parentElement.clientWidth;
  more.hidden = !table.querySelector(".more") || !(tight || all);
  table.classList.toggle("few", tight && !all);
};
button.addEventListener("click", () => {
  button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
  fit();
});
addEventListener("resize", fit);
addEventListener("beforeprint", fit);
fit();

// Light and dark: the system's choice until the button is pressed.
const theme = document.getElementById("theme");
const dark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme || (dark.matches ? "dark" : "light")) === "dark";
const name = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  name();
});
dark.addEventListener("change", name);
theme.hidden = false;
name();

// Points of the pictures tell what they are, to a pointer, a finger and a keyboard.
const tip = document.getElementById("tip");
let told = null;
const place = () => {
  if (!told) return;
  const box = told.querySelector("circle").getBoundingClientRect();
  const left = Math.min(box.right + 10, document.documentElement.clientWidth - tip.offsetWidth - 8);
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${Math.max(8, box.top - tip.offsetHeight - 8)}px`;
};
for (const title of document.querySelectorAll("svg title")) {
  const mark = title.parentElement;
  const text = title.textContent;
  title.remove(); // or the browser would tell it a second time
  mark.setAttribute("tabindex", "0");
  mark.setAttribute("role", "img");
  mark.setAttribute("aria-label", text);
  const tell = () => {
    told = mark;
    tip.textContent = text;
    tip.hidden = false;
    place();
  };
  const hush = () => {
    if (told !== mark) return; // another one took over, such as by the Tab key
    told = null;
    tip.hidden = true;
  };
  mark.addEventListener("pointerenter", tell);
  mark.addEventListener("focus", tell);
  mark.addEventListener("pointerleave", hush);
  mark.addEventListener("blur", hush);
}
addEventListener("scroll", place, { passive: true, capture: true });

// One row is one thing wherever it appears: in the table, in the pictures and among the clips.
for (const kind of ["pointerenter", "pointerleave"]) {
  for (const part of document.querySelectorAll("[data-row]")) {
    part.addEventListener(kind, () => {
      for (const twin of document.querySelectorAll(`[data-row="${CSS.escape(part.dataset.row)}"]`)) {
        twin.classList.toggle("lit", kind === "pointerenter");
      }
    });
  }
}

// Clips: all follow one clock, which can be stopped and turned by hand.
const controls = document.getElementById("player");
if (controls) {
  const play = document.getElementById("play");
  const seek = document.getElementById("seek");
  const beat = 1000 * parseFloat(getComputedStyle(document.getElementById("clips")).getPropertyValue("--beat"));
  const strips = () => document.getAnimations().filter((animation) => animation.animationName === "play");
  const videos = [...document.querySelectorAll("video")];
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  let playing = !still;
  let moment = still ? 0.5 : 0;

  const show = () => {
    const start = document.timeline.currentTime - moment * beat;
    for (const animation of strips()) {
      if (playing) {
        animation.startTime = start; // one start for all: play() would let each begin when its picture is ready
      } else {
        animation.pause();
        animation.currentTime = moment * beat;
      }
    }
    for (const video of videos) {
      if (video.duration) video.currentTime = moment * video.duration;
      if (playing) video.play().catch(() => {}); else video.pause();
    }
    play.textContent = playing ? "Pause" : "Play";
    play.setAttribute("aria-pressed", String(playing));
    seek.value = String(Math.floor(1000 * moment));
  };
  const follow = () => {
    if (!playing) return;
    const lead = strips()[0];
    if (lead) moment = ((lead.currentTime || 0) % beat) / beat;
    else if (videos[0] && videos[0].duration) moment = videos[0].currentTime / videos[0].duration;
    seek.value = String(Math.floor(1000 * moment));
    requestAnimationFrame(follow);
  };
  const turn = (running) => {
    playing = running;
    show();
    if (playing) requestAnimationFrame(follow);
  };
  play.addEventListener("click", () => turn(!playing));
  seek.addEventListener("input", () => { moment = Number(seek.value) / 1000; turn(false); });
  controls.hidden = false;
  addEventListener("load", () => turn(playing));
}
