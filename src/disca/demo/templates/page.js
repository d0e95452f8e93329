"use strict";

// Clips of one result follow the first of them; they can be stopped and turned by hand.
(() => {
  const APART = 0.1; // seconds that a clip may be off before it is moved
  const known = new WeakSet();

  function conduct(player) {
    const [lead, ...others] = player.querySelectorAll("video");
    const play = player.querySelector(".play");
    const seek = player.querySelector(".seek");
    if (!lead || !play || !seek) return;
    let playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;

    const show = () => {
      for (const video of [lead, ...others]) {
        if (playing) video.play().catch(() => {}); else video.pause();
      }
      play.textContent = playing ? "Pause" : "Play";
      play.setAttribute("aria-pressed", String(playing));
    };
    const apart = (video) => {
      const distance = Math.abs(video.currentTime - lead.currentTime);
      return Math.min(distance, lead.duration - distance);
    };
    const follow = () => {
      if (!player.isConnected) return;
      if (lead.duration) {
        for (const video of others) {
          if (video.readyState > 1 && !video.seeking && apart(video) > APART) video.currentTime = lead.currentTime;
        }
        if (playing) seek.value = String(Math.round((1000 * lead.currentTime) / lead.duration));
      }
      requestAnimationFrame(follow);
    };
    play.addEventListener("click", () => { playing = !playing; show(); });
    seek.addEventListener("input", () => {
      playing = false;
      show();
      const moment = (Number(seek.value) / 1000) * (lead.duration || 0);
      for (const video of [lead, ...others]) video.currentTime = Math.min(moment, (video.duration || 0) - 0.01);
    });
    show();
    requestAnimationFrame(follow);
  }

  new MutationObserver(() => {
    for (const player of document.querySelectorAll(".player")) {
      if (known.has(player)) continue;
      known.add(player);
      conduct(player);
    }
  }).observe(document.documentElement, { childList: true, subtree: true });
})();
