(() => {
  "use strict";
  const at = (id) => document.getElementById(id);
  const list = at("list"), still = matchMedia("(prefers-reduced-motion: reduce)");
  const APART_S = 0.08;
  let playing = !still.matches;

  // The clips of one card, which play in step. Their videos exist only while the card is near the screen.
  class Pair {
    constructor(card) {
      this.screens = [...card.querySelectorAll(".screen")];
      this.source = card.querySelector("script");
      this.button = card.querySelector(".toggle");
      this.number = card.id.replace("clip-", "");
      this.videos = [];
      this.seen = false;
      this.own = null;  // whether this card alone plays; null: as all others
      this.label();
    }
    get wanted() { return this.own ?? playing; }
    label() {
      if (!this.button) return;
      this.button.textContent = this.wanted ? "Pause" : "Play";
      this.button.setAttribute("aria-label", `${this.button.textContent} clip ${this.number}`);
    }
    load() {
      if (this.videos.length || !this.source) return;
      JSON.parse(this.source.textContent).forEach((content, index) => {
        if (content) this.videos.push(this.video(this.screens[index], content));
      });
    }
    video(screen, content) {
      const video = document.createElement("video"), image = screen.querySelector("img");
      const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
      Object.assign(video, {muted: true, playsInline: true, preload: "auto", disablePictureInPicture: true});
      video.setAttribute("muted", "");
      video.setAttribute("playsinline", "");
      video.setAttribute("aria-label", image.alt);
      video.tabIndex = -1;
      image.setAttribute("aria-hidden", "true");
      video.addEventListener("canplay", () => this.update());
      video.addEventListener("playing", () => video.classList.add("live"));
      video.addEventListener("ended", () => this.restart(video));
      video.addEventListener("timeupdate", () => this.align(video));
      // Where a frame's policy forbids blob URLs, use a data URL.
      video.addEventListener("error", () => {
        if (video.src.startsWith("blob:")) video.src = `data:video/mp4;base64,${content}`;
      });
      video.src = URL.createObjectURL(new Blob([bytes], {type: "video/mp4"}));
      screen.append(video);
      return video;
    }
    unload() {
      for (const video of this.videos) {
        const address = video.src;
        video.pause();
        video.removeAttribute("src");
        video.load();
        video.remove();
        if (address.startsWith("blob:")) URL.revokeObjectURL(address);
      }
      for (const screen of this.screens) screen.querySelector("img").removeAttribute("aria-hidden");
      this.videos = [];
    }
    get leader() {
      return this.videos.reduce((one, other) => (other.duration > one.duration ? other : one));
    }
    update() {
      this.label();
      if (!this.videos.length) return;
      if (!this.wanted || !this.seen) return this.videos.forEach((video) => video.pause());
      const ready = this.videos.every((video) => video.readyState >= HTMLMediaElement.HAVE_FUTURE_DATA || video.ended);
      if (!ready || this.videos.every((video) => !video.paused)) return;
      const {currentTime} = this.leader;
      for (const video of this.videos) if (video !== this.leader) video.currentTime = Math.min(currentTime, video.duration);
      this.play();
    }
    play() { this.videos.forEach((video) => video.play().catch(() => {})); }
    restart(video) {
      if (!this.videos.includes(video) || video !== this.leader || !this.wanted || !this.seen) return;
      for (const one of this.videos) one.currentTime = 0;
      this.play();
    }
    align(video) {
      if (!this.videos.includes(video) || video !== this.leader || video.paused) return;
      const leader = video;
      for (const other of this.videos) {
        if (other === leader || leader.currentTime >= other.duration - APART_S) continue;
        if (Math.abs(other.currentTime - leader.currentTime) > APART_S) other.currentTime = leader.currentTime;
      }
    }
    toggle() {
      this.own = !this.wanted;
      this.update();
    }
  }

  const cards = [...(list ? list.children : [])].map((element, index) => ({
    element, index, pair: new Pair(element), scores: JSON.parse(element.dataset.scores), words: element.dataset.words.split(" "),
  }));
  const cardOf = (element) => cards.find((card) => card.element === element);
  const shown = () => [...list.children].filter((element) => !element.hidden).map(cardOf);

  const watch = (margin, act) => {
    const observer = new IntersectionObserver((entries) => {
      for (const entry of entries) act(cardOf(entry.target).pair, entry.isIntersecting);
    }, {rootMargin: margin});
    for (const {element} of cards) observer.observe(element);
  };
  if ("IntersectionObserver" in window) {
    watch("300px 0px", (pair, near) => { if (near) pair.load(); else pair.unload(); });
    watch("0px", (pair, seen) => { pair.seen = seen; pair.update(); });
  }

  const clips = (count) => `${count} ${count === 1 ? "clip" : "clips"}`;
  const wordsOf = (text) => text.normalize("NFKC").toLowerCase().replace(/['’]/g, "").split(/[^\p{L}\p{N}\p{M}]+/u).filter(Boolean);
  const controls = list && {sort: at("sort"), order: at("order"), filter: at("filter"), three: at("three"), play: at("play"), status: at("status")};
  let onlyThree = false;

  // Cards with a value of the score in order, then those without one; ties stay in test order.
  const ranked = (some, k, bestFirst) => {
    if (k < 0) return {known: some, lacking: []};
    const higher = controls.sort.selectedOptions[0].dataset.higher === "1", sign = higher === bestFirst ? -1 : 1;
    const known = some.filter((card) => card.scores[k] !== null);
    known.sort((a, b) => sign * (a.scores[k] - b.scores[k]) || a.index - b.index);
    return {known, lacking: some.filter((card) => card.scores[k] === null)};
  };
  const threeOf = (known) => {
    const tags = new Map(), last = known.length - 1;
    [["best", 0], ["median", last >> 1], ["worst", last]].forEach(([tag, place]) => {
      const card = known[place];
      if (card) tags.set(card, tags.has(card) ? `${tags.get(card)}, ${tag}` : tag);
    });
    return tags;
  };
  const mark = (card, k, tag) => {
    const chosen = card.element.querySelector(".chosen");
    card.element.querySelectorAll(".scores div").forEach((row) => row.classList.toggle("sorted", Number(row.dataset.k) === k));
    const row = k < 0 ? null : card.element.querySelector(`.scores div[data-k="${k}"]`);
    chosen.replaceChildren();
    if (tag) chosen.append(Object.assign(document.createElement("b"), {textContent: tag}));
    if (row) chosen.append(`${row.querySelector("dt").textContent} ${row.querySelector("dd").textContent}`);
  };
  const announce = (matching, lacking, k, wanted) => {
    const label = k < 0 ? "" : controls.sort.selectedOptions[0].text, filtered = wanted.length > 0;
    const which = filtered ? `${matching} of ${clips(cards.length)} ${matching === 1 ? "matches" : "match"} “${wanted.join(" ")}”` : clips(matching);
    const how = k < 0 ? "test order" : `${label}, ${controls.order.value} first`;
    let text = onlyThree ? `Best, median and worst by ${label} of ${filtered ? "the clips that match: " : ""}${which}` : filtered ? `${which}; ${how}` : `${which} ${k < 0 ? "in" : "by"} ${how}`;
    if (lacking) text += `. ${clips(lacking)} ${lacking === 1 ? "has" : "have"} no value of this score`;
    controls.status.textContent = `${text}.`;
  };
  const arrange = () => {
    const k = Number(controls.sort.value), wanted = wordsOf(controls.filter.value);
    const matching = cards.filter((card) => wanted.every((word) => card.words.some((one) => one.startsWith(word))));
    const {known, lacking} = ranked(matching, k, onlyThree || controls.order.value === "best");
    const tags = onlyThree ? threeOf(known) : new Map();
    const ordered = onlyThree ? [...tags.keys()] : [...known, ...lacking], visible = new Set(ordered);
    for (const card of cards) {
      card.element.hidden = !visible.has(card);
      mark(card, k, tags.get(card));
    }
    const wholly = [...ordered, ...cards.filter((card) => !visible.has(card))];
    if (wholly.some((card, place) => list.children[place] !== card.element)) list.append(...wholly.map((card) => card.element));
    controls.order.disabled = k < 0 || onlyThree;
    if (controls.three) {
      controls.three.textContent = onlyThree ? "Back to all clips" : "Best, median and worst";
      controls.three.setAttribute("aria-pressed", String(onlyThree));
    }
    announce(matching.length, lacking.length, k, wanted);
    for (const {pair} of cards) pair.update();  // a video that is moved in the page stops
  };
  const playAll = (now) => {
    playing = now;
    controls.play.textContent = playing ? "Pause all" : "Play all";
    for (const {pair} of cards) { pair.own = null; pair.update(); }
  };

  const focus = (element) => {
    element.focus({preventScroll: true});
    element.scrollIntoView({block: "nearest"});
  };
  const neighbour = (card, key) => {
    const all = shown(), place = all.indexOf(card), top = all[0].element.offsetTop;
    const columns = all.filter(({element}) => element.offsetTop === top).length;
    const step = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns}[key];
    if (key === "Home") return all[0];
    if (key === "End") return all[all.length - 1];
    return step === undefined ? undefined : all[place + step] ?? card;
  };
  const onKey = (event) => {
    const card = cardOf(event.target);
    if (!card || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === " " || event.key === "Enter") card.pair.toggle();
    else {
      const next = neighbour(card, event.key);
      if (!next) return;
      focus(next.element);
    }
    event.preventDefault();
  };

  // Links within the page are followed here: in a frame without its own URL they would leave the frame.
  const reveal = (id) => {
    const target = id && at(id);
    if (!target) return false;
    if (cardOf(target) && target.hidden) {
      controls.filter.value = "";
      onlyThree = false;
      arrange();
    }
    if (target.tabIndex < 0) target.tabIndex = -1;
    target.focus({preventScroll: true});
    target.scrollIntoView({block: "start"});
    return true;
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || !reveal(link.hash.slice(1))) return;
    event.preventDefault();
    try { history.pushState(null, "", link.hash); } catch { /* a frame without a URL */ }
  });
  const named = () => { try { return decodeURIComponent(location.hash.slice(1)); } catch { return ""; } };
  addEventListener("hashchange", () => reveal(named()));

  if (!list) return;
  controls.sort.addEventListener("change", arrange);
  controls.order.addEventListener("change", arrange);
  controls.filter.addEventListener("input", arrange);
  controls.three?.addEventListener("click", () => {
    onlyThree = !onlyThree;
    if (onlyThree && controls.sort.value === "-1") controls.sort.value = controls.sort.querySelector("optgroup option").value;
    arrange();
  });
  controls.play.addEventListener("click", () => playAll(!playing));
  controls.play.hidden = !list.querySelector("script");
  at("bar").addEventListener("submit", (event) => event.preventDefault());
  list.addEventListener("keydown", onKey);
  list.addEventListener("click", (event) => {
    const card = event.target.closest(".clip");
    if (card && event.target.closest(".toggle, .screen")) cardOf(card).pair.toggle();
  });
  still.addEventListener("change", () => playAll(!still.matches));
  addEventListener("pageshow", () => { if (controls.sort.value !== "-1" || controls.filter.value) arrange(); });
  playAll(playing);
  if (named()) reveal(named());
})();
