
"use strict";
// The viewer of the object: one picture at a time, wheel and drag, a scale bar that follows the zoom.
(function () {
  const viewer = document.querySelector(".viewer");
  if (!viewer) {
    return;
  }
  const stage = viewer.querySelector(".stage");
  const bar = viewer.querySelector(".scale i");
  const barLabel = viewer.querySelector(".scale span");
  const place = viewer.querySelector(".place");
  const pictures = viewer.querySelectorAll(".picture");
  const widthPx = Number(viewer.dataset.widthPx);
  const heightPx = Number(viewer.dataset.heightPx);
  const pixelSizeM = Number(viewer.dataset.pixelSizeM) || 0;
  const PREFIXES = { 0: "", "-3": "m", "-6": "µ", "-9": "n", "-12": "p", "-15": "f" };
  const MOST = 64;
  let scale = 1;
  let left = 0;
  let top = 0;

  function choose(name) {
    for (const part of viewer.querySelectorAll("figure[data-picture], p[data-picture]")) {
      part.hidden = part.dataset.picture !== name;
    }
    for (const button of viewer.querySelectorAll("button.choose")) {
      button.setAttribute("aria-pressed", String(button.dataset.picture === name));
    }
  }

  // A round length near a quarter of what is visible, in metres where the pixel size is known.
  function roundLength() {
    const wanted = (0.25 * widthPx / scale) * (pixelSizeM || 1);
    const decade = Math.pow(10, Math.floor(Math.log10(wanted)));
    let length = decade;
    for (const factor of [2, 5]) {
      if (factor * decade <= wanted * 1.000001) {
        length = factor * decade;
      }
    }
    if (!pixelSizeM) {
      length = Math.max(length, 1);
      return [length, length.toFixed(0) + " px"];
    }
    const exponent = Math.max(-15, Math.min(0, 3 * Math.floor(Math.log10(length * 1.000001) / 3)));
    const number = Number((length / Math.pow(10, exponent)).toPrecision(3));
    return [length / pixelSizeM, number + " " + PREFIXES[exponent] + "m"];
  }

  function draw() {
    const width = stage.clientWidth;
    const height = stage.clientHeight;
    left = Math.min(0, Math.max(left, width * (1 - scale)));
    top = Math.min(0, Math.max(top, height * (1 - scale)));
    for (const picture of pictures) {
      picture.style.transform = "translate(" + left + "px, " + top + "px) scale(" + scale + ")";
    }
    const [length, label] = roundLength();
    bar.style.width = (length * width / widthPx) * scale + "px";
    barLabel.textContent = label;
  }

  function zoom(factor, x, y) {
    const next = Math.min(MOST, Math.max(1, scale * factor));
    left = x - (x - left) * (next / scale);
    top = y - (y - top) * (next / scale);
    scale = next;
    draw();
  }

  function middle(factor) {
    zoom(factor, stage.clientWidth / 2, stage.clientHeight / 2);
  }

  function whole() {
    scale = 1;
    left = 0;
    top = 0;
    draw();
  }

  function under(event) {
    const box = stage.getBoundingClientRect();
    return [event.clientX - box.left - stage.clientLeft, event.clientY - box.top - stage.clientTop];
  }

  viewer.classList.add("live");
  stage.style.aspectRatio = widthPx + " / " + heightPx;
  for (const button of viewer.querySelectorAll("button.choose")) {
    button.addEventListener("click", () => choose(button.dataset.picture));
  }
  viewer.querySelector(".nearer").addEventListener("click", () => middle(1.5));
  viewer.querySelector(".farther").addEventListener("click", () => middle(1 / 1.5));
  viewer.querySelector(".whole").addEventListener("click", whole);
  stage.addEventListener("dblclick", whole);
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.pow(1.0015, -event.deltaY), ...under(event));
  }, { passive: false });
  stage.addEventListener("pointerdown", (event) => stage.setPointerCapture(event.pointerId));
  stage.addEventListener("pointermove", (event) => {
    if (event.buttons & 1) {
      left += event.movementX;
      top += event.movementY;
      draw();
    }
    const [x, y] = under(event);
    const column = Math.floor((x - left) / scale / stage.clientWidth * widthPx);
    const row = Math.floor((y - top) / scale / stage.clientHeight * heightPx);
    place.textContent = "y " + row + ", x " + column + " px";
  });
  stage.addEventListener("pointerleave", () => { place.textContent = ""; });
  stage.addEventListener("keydown", (event) => {
    const step = 40;
    const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (event.key === "+" || event.key === "=") {
      middle(1.5);
    } else if (event.key === "-") {
      middle(1 / 1.5);
    } else if (event.key === "0") {
      whole();
    } else if (moves[event.key]) {
      left += moves[event.key][0];
      top += moves[event.key][1];
      draw();
    } else {
      return;
    }
    event.preventDefault();
  });
  window.addEventListener("resize", draw);
  const first = pictures[0].dataset.picture;
  const asked = decodeURIComponent(location.hash.slice(1));
  choose(Array.from(pictures, (picture) => picture.dataset.picture).includes(asked) ? asked : first);
  draw();
})();

// The map of the positions: a click, an arrow key or a button shows a frame as it was measured and as it is predicted.
(function () {
  const frames = document.querySelector(".frames");
  if (!frames) {
    return;
  }
  const map = frames.querySelector(".map");
  const spots = Array.from(frames.querySelectorAll(".spot"));
  const pairs = Array.from(frames.querySelectorAll(".pair"));
  const worst = pairs.reduce((most, pair, index) =>
    Number(pair.dataset.residual) > Number(pairs[most].dataset.residual) ? index : most, 0);
  let chosen = worst;

  function choose(index) {
    chosen = (index + pairs.length) % pairs.length;
    pairs.forEach((pair, each) => { pair.hidden = each !== chosen; });
    spots.forEach((spot, each) => {
      spot.setAttribute("aria-pressed", String(each === chosen));
      // One stop for the tabulator; the arrow keys go from frame to frame.
      spot.tabIndex = each === chosen ? 0 : -1;
    });
  }

  function nearest(x, y) {
    const distances = spots.map((spot) => {
      const box = spot.getBoundingClientRect();
      return Math.hypot(box.left + box.width / 2 - x, box.top + box.height / 2 - y);
    });
    return distances.indexOf(Math.min(...distances));
  }

  frames.classList.add("live");
  map.addEventListener("click", (event) => {
    const index = spots.indexOf(event.target);
    choose(index >= 0 ? index : nearest(event.clientX, event.clientY));
  });
  map.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    if (steps[event.key]) {
      choose(chosen + steps[event.key]);
      spots[chosen].focus();
      event.preventDefault();
    }
  });
  frames.querySelector(".before").addEventListener("click", () => choose(chosen - 1));
  frames.querySelector(".after").addEventListener("click", () => choose(chosen + 1));
  frames.querySelector(".worst").addEventListener("click", () => choose(worst));
  choose(worst);
})();
