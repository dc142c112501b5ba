// A network as a graph: nodes in rows, inputs at the bottom, and on each edge a box with its function. Draws, and reports
// which edge is chosen; all that is computed comes from Python.
const SPACE = "http://www.w3.org/2000/svg";
const BOX = 44;
const PITCH = 54;
const HALF = 74; // from a row of nodes to a row of boxes

function render({ model, el }) {
  const tone = model.get("tones");
  const { widths, names, edges } = model.get("graph");
  const layers = widths.length - 1;
  const width = Math.max(300, PITCH * Math.max(...widths.slice(1).map((out, l) => out * widths[l])) + 16);
  const height = 2 * HALF * layers + 62;
  const make = (name, attributes, parent) => {
    const part = document.createElementNS(SPACE, name);
    for (const [key, value] of Object.entries(attributes)) part.setAttribute(key, value);
    if (parent) parent.appendChild(part);
    return part;
  };

  const frame = document.createElement("div");
  frame.className = "sciviz-graph";
  // Boxes too small to hit are worse than having to scroll.
  Object.assign(frame.style, { overflowX: "auto", maxWidth: "100%" });
  const style = document.createElement("style");
  style.textContent = `
    .sciviz-graph [role=button] { cursor: pointer; }
    .sciviz-graph [role=button]:hover .box { fill: ${tone.grid}; }
    .sciviz-graph text { font: 13px -apple-system, "Segoe UI", Roboto, "DejaVu Sans", Arial, sans-serif; fill: ${tone.ink}; }
    .sciviz-graph .number { fill: ${tone.muted}; }
    .sciviz-graph .halo { paint-order: stroke; stroke: ${tone.card}; stroke-width: 4px; stroke-linejoin: round; }`;
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": model.get("label") });
  // At most a little larger than it is drawn, and never so small that numbers cannot be read.
  Object.assign(svg.style, {
    display: "block", width: "100%", minWidth: `${Math.min(width, Math.max(300, 0.62 * width))}px`,
    maxWidth: `${1.15 * width}px`,
  });
  frame.append(style, svg);
  el.appendChild(frame);

  const level = (layer) => height - 32 - 2 * HALF * layer;
  const node = (layer, n) => [(width * (n + 0.5)) / widths[layer], level(layer)];
  const lines = make("g", { "aria-hidden": "true" }, svg);
  const boxes = make("g", {}, svg);
  const dots = make("g", { "aria-hidden": "true" }, svg);
  const parts = edges.map((edge, index) => {
    const count = widths[edge.layer] * widths[edge.layer + 1];
    const place = edge.source * widths[edge.layer + 1] + edge.target;
    const x = (width * (place + 0.5)) / count;
    const y = level(edge.layer) - HALF;
    const [x1, y1] = node(edge.layer, edge.source);
    const [x2, y2] = node(edge.layer + 1, edge.target);
    const wires = [
      make("path", { d: `M${x1},${y1} C${x1},${y1 - 26} ${x},${y + BOX / 2 + 26} ${x},${y + BOX / 2}` }, lines),
      make("path", { d: `M${x},${y - BOX / 2} C${x},${y - BOX / 2 - 26} ${x2},${y2 + 26} ${x2},${y2}` }, lines),
    ];
    for (const wire of wires) wire.setAttribute("fill", "none");
    const group = make("g", {
      role: "button", tabindex: "0", transform: `translate(${x - BOX / 2},${y - BOX / 2})`,
      "data-lm-suppress-shortcuts": "true", "data-edge": index,
    }, boxes);
    const box = make("rect", { class: "box", width: BOX, height: BOX, rx: 4 }, group);
    const curve = make("path", { fill: "none" }, group);
    const number = make("text", { class: "number halo", x: -2, y: -4 }, group);
    number.textContent = edge.number;
    const tag = make("text", { class: "halo", x: BOX / 2, y: BOX + 4, "text-anchor": "middle" }, group);
    const title = make("title", {}, group);
    const choose = () => {
      if (model.get("selected") === index) return;
      model.set("selected", index);
      model.save_changes();
    };
    group.addEventListener("focus", choose);
    group.addEventListener("click", () => { group.focus({ preventScroll: true }); choose(); });
    group.addEventListener("keydown", (event) => {
      const ways = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 };
      if (event.key in ways) {
        const next = parts[index + ways[event.key]];
        if (next) next.group.focus();
      } else if (event.key === "Enter" || event.key === " ") choose();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    return { group, box, curve, tag, title, wires };
  });
  widths.forEach((count, layer) => {
    for (let n = 0; n < count; n += 1) {
      const [x, y] = node(layer, n);
      make("circle", { cx: x, cy: y, r: 5, fill: tone.ink, stroke: tone.card, "stroke-width": 2 }, dots);
      const below = layer === 0 ? [x, y + 22, "middle"] : layer === layers ? [x, y - 12, "middle"] : [x + 10, y + 4, "start"];
      const text = make("text", { class: "halo", x: below[0], y: below[1], "text-anchor": below[2] }, dots);
      text.textContent = names[layer][n];
    }
  });

  const draw = () => {
    const chosen = model.get("selected");
    model.get("graph").edges.forEach((edge, index) => {
      const { group, box, curve, tag, title, wires } = parts[index];
      const active = index === chosen;
      const pruned = edge.state === "pruned";
      const fixed = edge.state === "fixed";
      group.setAttribute("aria-pressed", String(active));
      group.setAttribute("aria-label", edge.label);
      title.textContent = edge.label;
      box.setAttribute("fill", "#ffffff");
      box.setAttribute("stroke", active ? tone.active : pruned ? tone.baseline : tone.ink);
      box.setAttribute("stroke-width", active ? 3 : fixed ? 2 : 1);
      box.setAttribute("stroke-dasharray", pruned ? "3 3" : "none");
      // What state an edge is in is told by shape and word, not by colour alone.
      const inner = BOX - 8;
      const points = edge.curve.map(([u, v]) => `${(4 + inner * u).toFixed(1)},${(4 + inner * (1 - v)).toFixed(1)}`);
      curve.setAttribute("d", pruned ? "M15,15 L29,29 M29,15 L15,29" : `M${points.join("L")}`);
      curve.setAttribute("stroke", pruned ? tone.baseline : fixed ? tone.ink : tone.measured);
      curve.setAttribute("stroke-width", pruned ? 1.5 : 2);
      curve.setAttribute("stroke-dasharray", fixed ? "4 2.5" : "none");
      tag.textContent = fixed ? edge.form : "";
      for (const wire of wires) {
        wire.setAttribute("stroke", active ? tone.active : pruned ? tone.baseline : tone.ink);
        wire.setAttribute("stroke-width", pruned ? 1 : 0.8 + 3 * edge.weight);
        wire.setAttribute("stroke-dasharray", pruned ? "1 5" : "none");
        wire.setAttribute("opacity", active ? 1 : 0.25 + 0.75 * edge.weight);
      }
    });
  };
  model.on("change:graph", draw);
  model.on("change:selected", draw);
  draw();
  return () => { model.off("change:graph", draw); model.off("change:selected", draw); };
}

export default { render };
