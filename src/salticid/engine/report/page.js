"use strict";
document.documentElement.classList.add("script");

// A slider through the pictures of a run.
for (const film of document.querySelectorAll(".film")) {
  const frames = [...film.querySelectorAll("img")];
  const input = film.querySelector("input");
  const output = film.querySelector("output");
  const show = (index) => {
    frames.forEach((frame, i) => frame.classList.toggle("shown", i === index));
    if (output) output.textContent = "step " + frames[index].dataset.step;
  };
  if (input) input.addEventListener("input", () => show(Number(input.value)));
  show(input ? Number(input.value) : 0);
}

// The values under the pointer.
for (const chart of document.querySelectorAll("svg.chart")) {
  const lines = [...chart.querySelectorAll("path.line")].map((path) => ({
    name: path.dataset.name,
    colour: path.classList[1],
    steps: path.dataset.x.split(" "),
    texts: path.dataset.y.split("|"),
    points: path.getAttribute("d").slice(1).split("L").map((pair) => pair.split(" ").map(Number)),
  }));
  if (!lines.length) continue;
  const card = chart.closest(".card");
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  card.append(tip);
  const marker = document.createElementNS(chart.namespaceURI, "g");
  chart.append(marker);

  const nearest = (points, x) => {
    let best = 0;
    points.forEach((point, i) => { if (Math.abs(point[0] - x) < Math.abs(points[best][0] - x)) best = i; });
    return best;
  };
  const element = (name, attributes) => {
    const made = document.createElementNS(chart.namespaceURI, name);
    for (const key in attributes) made.setAttribute(key, attributes[key]);
    return made;
  };
  const hide = () => { tip.hidden = true; marker.replaceChildren(); };
  chart.addEventListener("pointerleave", hide);
  chart.addEventListener("pointermove", (event) => {
    const box = chart.getBoundingClientRect();
    const scale = chart.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale;
    const found = lines.map((line) => ({ line, i: nearest(line.points, x) }));
    const at = found[0].line.points[found[0].i][0];
    marker.replaceChildren(
      element("line", { class: "cursor", x1: at, x2: at, y1: 10, y2: chart.viewBox.baseVal.height - 26 }),
      ...found.map(({ line, i }) => element("circle", {
        class: "dot " + line.colour, r: 3.5, cx: line.points[i][0], cy: line.points[i][1],
      })),
    );
    const rows = found.map(({ line, i }) => {
      const row = document.createElement("div");
      row.className = line.colour;
      row.textContent = line.name + ": " + line.texts[i];
      return row;
    });
    const head = document.createElement("div");
    head.textContent = "step " + found[0].line.steps[found[0].i];
    tip.replaceChildren(head, ...rows);
    tip.hidden = false;
    const frame = card.getBoundingClientRect();
    const left = event.clientX - frame.left + 14;
    const flip = left + tip.offsetWidth > frame.width - 6;
    tip.style.left = (flip ? Math.max(left - tip.offsetWidth - 28, 6) : left) + "px";
    tip.style.top = (box.top - frame.top + 12) + "px";
  });
}
