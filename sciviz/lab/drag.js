// Makes the starting points of a panel's figure draggable. Points are kept in the coordinates of the figure's axes.
const REACH = 16; // pixels: how close a pointer must come to a point to take hold of it

function render({ model, el }) {
  el.style.display = "none";
  let plot = null;
  let held = -1;
  let points = []; // while one is held: what the kernel answers to an earlier place must not move it back
  let waiting = false;

  const axes = () => {
    const layout = plot._fullLayout;
    const end = model.get("column") === 1 ? "" : String(model.get("column"));
    return [layout["xaxis" + end], layout["yaxis" + end]];
  };
  // A figure in JupyterLab may be scaled; its own pixels are those of its layout.
  const place = (event) => {
    const box = plot.getBoundingClientRect();
    const scale = box.width / plot._fullLayout.width || 1;
    const [x, y] = axes();
    return [(event.clientX - box.left) / scale - x._offset, (event.clientY - box.top) / scale - y._offset];
  };
  const nearest = (event) => {
    const [x, y] = axes();
    const [left, top] = place(event);
    let best = -1;
    let least = REACH;
    model.get("value").forEach(([a, b], index) => {
      const away = Math.hypot(x.d2p(a) - left, y.d2p(b) - top);
      if (away < least) [best, least] = [index, away];
    });
    return best;
  };
  const clamp = (value, [low, high]) => Math.min(Math.max(value, low), high);

  const move = (event) => {
    if (held < 0) {
      const over = nearest(event) >= 0;
      plot.querySelectorAll(".nsewdrag").forEach((part) => (part.style.cursor = over ? "grab" : ""));
      return;
    }
    event.preventDefault();
    event.stopPropagation();
    const [x, y] = axes();
    const [left, top] = place(event);
    points[held] = [clamp(x.p2d(left), model.get("x_range")), clamp(y.p2d(top), model.get("y_range"))];
    model.set("value", points.map((point) => [...point]));
    // One message a frame is as many as can be seen.
    if (!waiting) {
      waiting = true;
      requestAnimationFrame(() => { waiting = false; model.save_changes(); });
    }
  };
  const press = (event) => {
    const index = nearest(event);
    if (index < 0) return;
    held = index;
    points = model.get("value").map((point) => [...point]);
    model.set("selected", index);
    model.save_changes();
    event.preventDefault();
    event.stopPropagation();
  };
  const release = (event) => {
    if (held < 0) return;
    // Where it is let go counts, also if the page was too busy to hear of the last moves.
    if (event.type === "pointerup") move(event);
    held = -1;
    model.save_changes();
    event.preventDefault();
    event.stopPropagation();
  };
  // Plotly zooms on what begins with a mouse button; while a point is held nothing of it may reach plotly.
  const swallow = (event) => {
    if (held >= 0 || nearest(event) >= 0) {
      event.preventDefault();
      event.stopPropagation();
    }
  };

  const attach = () => {
    const panel = el.closest(".sciviz-panel");
    const found = panel && panel.querySelector(".js-plotly-plot");
    if (!found || !found._fullLayout || found === plot) return;
    detach();
    plot = found;
    plot.addEventListener("pointerdown", press, true);
    plot.addEventListener("mousedown", swallow, true);
    plot.addEventListener("touchstart", swallow, { capture: true, passive: false });
    window.addEventListener("pointermove", follow, true);
    window.addEventListener("pointerup", release, true);
    window.addEventListener("pointercancel", release, true);
    plot.dataset.draggable = "1";
  };
  const follow = (event) => {
    if (held >= 0 || plot.contains(event.target)) move(event);
  };
  const detach = () => {
    if (!plot) return;
    plot.removeEventListener("pointerdown", press, true);
    plot.removeEventListener("mousedown", swallow, true);
    plot.removeEventListener("touchstart", swallow, true);
    window.removeEventListener("pointermove", follow, true);
    window.removeEventListener("pointerup", release, true);
    window.removeEventListener("pointercancel", release, true);
    plot = null;
  };
  // The figure is drawn after its panel, and drawn anew when a notebook scrolls it back into view.
  const look = setInterval(attach, 300);
  return () => { clearInterval(look); detach(); };
}

export default { render };
