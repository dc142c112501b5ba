// Eight by eight pixels to draw on, with a pointer or with the arrow keys and the space bar.
const SIDE = 8;
const CELL = 20;
const HIDDEN = -1;
const BRUSHES = [1, 0, HIDDEN]; // ink, paper, hide

function render({ model, el }) {
  const canvas = document.createElement("canvas");
  const size = SIDE * CELL;
  const sharp = window.devicePixelRatio || 1;
  canvas.width = canvas.height = size * sharp;
  Object.assign(canvas.style, {
    width: `${size}px`, height: `${size}px`, margin: "4px 12px 4px 0", cursor: "crosshair", touchAction: "none",
  });
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("data-lm-suppress-shortcuts", "true");
  el.appendChild(canvas);
  const pen = canvas.getContext("2d");
  pen.scale(sharp, sharp);
  let waiting = false;
  let down = false;

  const word = (v) => (v === HIDDEN ? "hidden" : v > 0.5 ? "ink" : "paper");
  const draw = () => {
    const value = model.get("value");
    const [row, column] = [model.get("row"), model.get("column")];
    value.forEach((v, i) => {
      const [x, y] = [(i % SIDE) * CELL, Math.floor(i / SIDE) * CELL];
      pen.fillStyle = "#efece4";
      pen.fillRect(x, y, CELL, CELL);
      if (v === HIDDEN) {
        // Hatched: that a pixel is hidden is not told by colour alone.
        pen.fillStyle = "#cfcabd";
        pen.fillRect(x, y, CELL, CELL);
        pen.strokeStyle = "#8b8f99";
        pen.beginPath();
        pen.moveTo(x + 4, y + CELL - 4);
        pen.lineTo(x + CELL - 4, y + 4);
        pen.stroke();
      } else {
        pen.fillStyle = `rgba(31, 36, 48, ${v})`;
        pen.fillRect(x, y, CELL, CELL);
      }
      pen.strokeStyle = "#dcd9d0";
      pen.strokeRect(x + 0.5, y + 0.5, CELL - 1, CELL - 1);
    });
    pen.strokeStyle = "#d6006c";
    pen.lineWidth = 2;
    pen.strokeRect(column * CELL + 1, row * CELL + 1, CELL - 2, CELL - 2);
    pen.lineWidth = 1;
    canvas.setAttribute(
      "aria-label",
      `Drawing, row ${row + 1}, column ${column + 1}: ${word(value[row * SIDE + column])}. Arrow keys move, space paints.`,
    );
  };
  const send = () => {
    // One message a frame is as many as can be seen.
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; model.save_changes(); });
  };
  const paint = (row, column) => {
    const value = [...model.get("value")];
    value[row * SIDE + column] = BRUSHES[model.get("brush")];
    model.set("value", value);
    send();
  };
  const move = (row, column) => {
    model.set("row", Math.min(Math.max(row, 0), SIDE - 1));
    model.set("column", Math.min(Math.max(column, 0), SIDE - 1));
    send();
  };
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    const place = (from, start, length) => Math.floor(((from - start) / length) * SIDE);
    return [place(event.clientY, box.top, box.height), place(event.clientX, box.left, box.width)];
  };
  const touch = (event) => {
    const [row, column] = at(event);
    if (row < 0 || column < 0 || row >= SIDE || column >= SIDE) return;
    move(row, column);
    paint(row, column);
  };
  canvas.addEventListener("pointerdown", (event) => {
    down = true;
    canvas.setPointerCapture(event.pointerId);
    touch(event);
  });
  canvas.addEventListener("pointermove", (event) => { if (down) touch(event); });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { down = false; });
  canvas.addEventListener("keydown", (event) => {
    const [row, column] = [model.get("row"), model.get("column")];
    const ways = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (event.key in ways) move(row + ways[event.key][0], column + ways[event.key][1]);
    else if (event.key === " ") paint(row, column);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  for (const name of ["value", "row", "column"]) model.on(`change:${name}`, draw);
  draw();
}

export default { render };
