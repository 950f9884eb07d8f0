// 360° pictures: a view into one of them, which is turned by dragging and stays where it is when another is chosen.
// Axes as everywhere: x right, y down, z ahead, which is the centre column of the picture; yaw to the right, pitch up.
const HOME = { yaw: 0, pitch: 0, width: 90 * Math.PI / 180 };
const NARROWEST = 20 * Math.PI / 180;
const WIDEST = 120 * Math.PI / 180;
const SIZE = { width: 640, height: 360 }; // drawn in about 20 ms on a slow core
const STEP = 0.08; // of the width of the view, for one press of an arrow key

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const degrees = (angle) => Math.round(angle * 180 / Math.PI);

// The pixels of an image element: RGBA, row by row.
const readPixels = (image) => {
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
};

// Fill `target` with the perspective view of the panorama `source`, read bilinearly and across the seam.
// `look.width` is the horizontal angle of view. Pitch turns a whole row of rays alike, yaw adds to their longitude.
const render = (source, target, look) => {
  const { width, height, data } = source;
  const out = target.data;
  const focal = target.width / 2 / Math.tan(look.width / 2);
  const [sin, cos] = [Math.sin(look.pitch), Math.cos(look.pitch)];
  let o = 0;
  for (let row = 0; row < target.height; row++) {
    const down = (row - (target.height - 1) / 2) / focal;
    const y = down * cos - sin;
    const z = down * sin + cos;
    for (let column = 0; column < target.width; column++, o += 4) {
      const x = (column - (target.width - 1) / 2) / focal;
      const longitude = look.yaw + Math.atan2(x, z);
      const latitude = Math.atan2(y, Math.sqrt(x * x + z * z));
      const turn = longitude / (2 * Math.PI) + 0.5;
      const u = (turn - Math.floor(turn)) * width - 0.5;
      const v = clamp((latitude / Math.PI + 0.5) * height - 0.5, 0, height - 1);
      const left = Math.floor(u);
      const top = Math.floor(v);
      const a = u - left;
      const b = v - top;
      const from = left < 0 ? left + width : left;
      const to = left + 1 < width ? left + 1 : 0;
      const upper = top * width;
      const lower = Math.min(top + 1, height - 1) * width;
      const i = 4 * (upper + from), j = 4 * (upper + to), k = 4 * (lower + from), l = 4 * (lower + to);
      const p = (1 - a) * (1 - b), q = a * (1 - b), r = (1 - a) * b, s = a * b;
      out[o] = p * data[i] + q * data[j] + r * data[k] + s * data[l];
      out[o + 1] = p * data[i + 1] + q * data[j + 1] + r * data[k + 1] + s * data[l + 1];
      out[o + 2] = p * data[i + 2] + q * data[j + 2] + r * data[k + 2] + s * data[l + 2];
      out[o + 3] = 255;
    }
  }
};

// A row of buttons of which one is pressed; `choose` is called with the label of another one.
const choice = (label, options, choose) => {
  const group = document.createElement("div");
  group.className = "choice";
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", label);
  group.hidden = options.length < 2;
  const buttons = options.map((option) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = option;
    button.addEventListener("click", () => choose(option));
    return button;
  });
  group.append(label, ...buttons);
  const update = (chosen, possible) => buttons.forEach((button, i) => {
    button.setAttribute("aria-pressed", options[i] === chosen);
    button.disabled = !possible.has(options[i]);
  });
  return { group, update };
};

// Dragging, pinching, wheel and keys: all they do is to call turn(right, up) in radians, zoom(factor) and reset().
// `angle()` is what a pixel in the middle of the view stands for, in radians.
const listen = (canvas, angle, { turn, zoom, reset }) => {
  const fingers = new Map();
  const spread = () => {
    const [a, b] = fingers.values();
    return Math.hypot(a.x - b.x, a.y - b.y);
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const apart = fingers.size === 2 ? spread() : 0;
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (apart) zoom(spread() / apart);
    // The picture follows the finger.
    else if (fingers.size === 1) turn((before.x - event.clientX) * angle(), (event.clientY - before.y) * angle());
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
  }
  canvas.addEventListener("wheel", (event) => {
    // Whoever scrolls past is not to be caught: the wheel zooms once the view has been clicked on.
    if (document.activeElement !== canvas && !event.ctrlKey) return;
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.03 : 0.001) * (event.ctrlKey ? 10 : 1)));
  }, { passive: false });
  canvas.addEventListener("dblclick", reset);
  const step = () => STEP * canvas.clientWidth * angle();
  const keys = {
    ArrowLeft: () => turn(-step(), 0), ArrowRight: () => turn(step(), 0),
    ArrowUp: () => turn(0, step()), ArrowDown: () => turn(0, -step()),
    "+": () => zoom(1.15), "=": () => zoom(1.15), "-": () => zoom(1 / 1.15), "0": reset, Home: reset,
  };
  canvas.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    keys[event.key]();
  });
};

const openSphere = (sphere) => {
  const images = [...sphere.querySelectorAll("img")].filter((image) => image.naturalWidth);
  if (!images.length) return;
  const canvas = Object.assign(document.createElement("canvas"), SIZE);
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  const context = canvas.getContext("2d");
  const view = context.createImageData(SIZE.width, SIZE.height);
  const pixels = new Map();
  const look = { ...HOME };
  let { sample, name } = images[0].dataset;
  let waiting = false;

  const find = (s, n) => images.find((image) => image.dataset.sample === s && image.dataset.name === n);
  const list = (key) => [...new Set(images.map((image) => image.dataset[key]))];
  const samples = choice("sample", list("sample"), (chosen) => {
    sample = chosen;
    if (!find(sample, name)) name = images.find((image) => image.dataset.sample === sample).dataset.name;
    draw();
  });
  const names = choice("picture", list("name"), (chosen) => { name = chosen; draw(); });
  const title = document.createElement("span");
  const direction = document.createElement("span");

  const paint = () => {
    waiting = false;
    const image = find(sample, name);
    if (!pixels.has(image)) pixels.set(image, readPixels(image));
    render(pixels.get(image), view, look);
    context.putImageData(view, 0, 0);
    samples.update(sample, new Set(list("sample")));
    names.update(name, new Set(images.filter((i) => i.dataset.sample === sample).map((i) => i.dataset.name)));
    const side = `${Math.abs(degrees(look.yaw))}° ${look.yaw < 0 ? "left" : "right"}`;
    const tilt = `${Math.abs(degrees(look.pitch))}° ${look.pitch < 0 ? "down" : "up"}`;
    title.textContent = image.dataset.title;
    direction.textContent = `${side} · ${tilt} · ${degrees(look.width)}° wide`;
    canvas.setAttribute("aria-label", `${name}, ${image.dataset.title}, looking ${side}, ${tilt}. `
      + "Arrow keys turn the view, plus and minus zoom, 0 resets it.");
  };
  const draw = () => {
    if (!waiting) requestAnimationFrame(paint);
    waiting = true;
  };
  listen(canvas, () => 2 * Math.tan(look.width / 2) / canvas.clientWidth, {
    turn: (right, up) => {
      const turned = look.yaw + right + Math.PI;
      look.yaw = turned - 2 * Math.PI * Math.floor(turned / (2 * Math.PI)) - Math.PI;
      look.pitch = clamp(look.pitch + up, -Math.PI / 2, Math.PI / 2);
      draw();
    },
    zoom: (factor) => { look.width = clamp(look.width / factor, NARROWEST, WIDEST); draw(); },
    reset: () => { Object.assign(look, HOME); draw(); },
  });

  const controls = document.createElement("div");
  controls.className = "controls";
  controls.append(names.group, samples.group);
  const caption = document.createElement("p");
  caption.className = "note";
  caption.append(title, direction);
  const hint = document.createElement("p");
  hint.className = "note";
  hint.textContent = "Drag or use the arrow keys to look around; + and −, a pinch, or the wheel after a click zoom; "
    + "a double click resets.";
  const viewer = document.createElement("div");
  viewer.className = "viewer";
  viewer.append(controls, canvas, caption, hint);
  sphere.prepend(viewer);
  sphere.classList.add("open");
  draw();
};

for (const sphere of document.querySelectorAll(".sphere")) {
  const decoded = [...sphere.querySelectorAll("img")].map((image) => image.decode());
  Promise.allSettled(decoded).then(() => openSphere(sphere));
}
