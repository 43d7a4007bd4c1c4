/** The picture: a canvas on which only what is in view, and no finer than a pixel, is drawn. */
class View {
  constructor(canvas, model) {
    Object.assign(this, { canvas, model, chosen: -1, path: new Set(), hover: -1, drawn: [] });
    this.pen = canvas.getContext("2d");
    this.x = 0; // column at the left edge
    this.y = 0; // line at the upper edge
    this.line = LINE; // height of a line in pixels: the zoom
    this.labels = new Labels(this.pen, model);
    this.last = new Int32Array(model.deepest + 1);
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recolour());
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
    this.recolour();
  }

  recolour() {
    const style = getComputedStyle(document.documentElement);
    this.colours = {};
    for (const name of ["ink", "soft", "paper", "line", "tint", "link", "glow", ...KINDS]) {
      this.colours[name] = style.getPropertyValue(`--${name}`).trim();
    }
    this.refresh();
  }

  resize() {
    const { clientWidth, clientHeight } = this.canvas.parentElement;
    const density = devicePixelRatio || 1;
    const fresh = !this.width;
    Object.assign(this, { width: clientWidth, height: clientHeight, density });
    this.canvas.width = Math.round(clientWidth * density);
    this.canvas.height = Math.round(clientHeight * density);
    if (fresh) this.go(-0.06, 0, Math.max(EASY, this.least()), false);
    this.draw();
  }

  refresh() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => { this.waiting = 0; this.draw(); });
  }

  /** Width of a column at a height of lines: narrower while the text of lines is too small. */
  column(line = this.line) {
    const fitting = this.width / (this.model.shown + 1.35);
    const wide = Math.min(clamp(fitting, 0.76 * WIDE, WIDE), Math.max(150, this.width * 0.5));
    const narrow = Math.min(wide, Math.max(NARROW, fitting));
    return Math.max(narrow, wide * Math.min(1, line / EASY)) * Math.max(1, line / LINE);
  }

  least() { return Math.min(LINE, (this.height - 16) / Math.max(1, this.model.lines)); }

  /** Height on the screen; an open node stands amid those of its lines that are in view. */
  place(node) {
    const { start, end } = this.model;
    const low = (start[node] + 0.5 - this.y) * this.line;
    const high = (end[node] + 0.5 - this.y) * this.line;
    const margin = Math.min(LINE * 0.7, this.line / 2);
    const inside = (at) => clamp(at, Math.min(high, margin), Math.max(low, this.height - margin));
    return (inside(low) + inside(high)) / 2;
  }

  go(x, y, line, smooth = true) {
    line = clamp(line, this.least(), MOST);
    const column = this.column(line);
    const room = this.height / line;
    const over = this.model.lines - room;
    x = clamp(x, -0.4 * this.width / column, this.model.deepest + 0.5);
    y = over < 0 ? over / 2 : clamp(y, -0.3 * room, over + 0.3 * room);
    cancelAnimationFrame(this.moving);
    const from = [this.x, this.y, Math.log(this.line)];
    const to = [x, y, Math.log(line)];
    if (!smooth || this.still.matches) { this.stand(to); return; }
    const begin = performance.now();
    const step = (now) => {
      const share = clamp((now - begin) / 220, 0, 1);
      const eased = 1 - (1 - share) ** 3;
      this.stand(from.map((a, i) => a + (to[i] - a) * eased));
      if (share < 1) this.moving = requestAnimationFrame(step);
    };
    this.moving = requestAnimationFrame(step);
  }

  stand([x, y, log]) {
    Object.assign(this, { x, y, line: Math.exp(log) });
    this.refresh();
  }

  /** Zooms about a point of the screen, which keeps what it shows. */
  zoom(factor, px = this.width / 2, py = this.height / 2, smooth = true) {
    const line = clamp(this.line * factor, this.least(), MOST);
    const x = this.x + px / this.column() - px / this.column(line);
    this.go(x, this.y + py / this.line - py / line, line, smooth);
  }
  pan(dx, dy, smooth = false) {
    this.go(this.x - dx / this.column(), this.y - dy / this.line, this.line, smooth);
  }
  fit(smooth = true) { this.go(-0.06, 0, this.least(), smooth); }

  centre(node) {
    const { start, end, depth } = this.model;
    const line = Math.max(this.line, LINE);
    const y = (start[node] + end[node] + 1) / 2 - this.height / line / 2;
    this.go(depth[node] - 0.3 * this.width / this.column(line), y, line);
  }

  /** Moves no further than needed to see a node, and the column of its children if it is open. */
  show(node) {
    const { model } = this;
    const column = this.column();
    const last = model.depth[node] + (model.opened(node) ? 2 : 1);
    let x = Math.max(this.x, last - this.width / column);
    x = Math.min(x, model.depth[node] - 0.06);
    const at = this.place(node);
    const margin = LINE;
    const dy = at < margin ? at - margin : Math.max(0, at - this.height + margin);
    this.go(x, this.y + dy / this.line, this.line);
  }

  /** Runs a change of what is open; the node stays where it is on the screen. */
  keep(node, change) {
    const at = this.place(node);
    const left = this.left(node);
    change();
    const { start, end } = this.model;
    const line = Math.max(this.line, this.least());
    const y = (start[node] + end[node] + 1) / 2 - at / line;
    this.go(this.x + (this.left(node) - left) / this.column(line), y, line, false);
  }

  draw() {
    const began = performance.now();
    const { pen, width, height, density, model } = this;
    pen.setTransform(density, 0, 0, density, 0, 0);
    pen.clearRect(0, 0, width, height);
    this.font = this.column() < 1.5 * NARROW ? 11 : 13 * Math.max(1, this.line / LINE);
    pen.font = `${this.font}px system-ui, "Segoe UI", Roboto, sans-serif`;
    pen.textBaseline = "middle";
    this.drawn = [];
    this.last.fill(-9999);
    const nodes = this.inView();
    this.links(nodes.filter(([node]) => model.opened(node)));
    for (const [node, y, space, visible] of nodes) {
      if (space * 0.84 >= LEGIBLE) this.pill(node, y, space, visible);
      else this.bar(node, y, Math.max(1, space * 0.84));
    }
    this.took = performance.now() - began;
  }

  /**
   * Nodes in view, each with its height on the screen, its room, and how much of that is in view.
   * Of those that share a line of pixels there is the first alone, without what stands below it.
   */
  inView() {
    const { model, line, height } = this;
    const column = this.column();
    const found = [];
    const waiting = [model.size];
    while (waiting.length) {
      const top = waiting.pop();
      for (const node of model.children(top)) {
        const low = (model.start[node] - this.y) * line;
        const high = (model.end[node] + 1 - this.y) * line;
        if (high < 0) continue;
        if (low > height) break;
        const y = this.place(node);
        const depth = model.depth[node];
        if (high - low < 1 && node !== this.chosen) {
          if (this.last[depth] === Math.round(y)) continue;
          this.last[depth] = Math.round(y);
        }
        if ((depth - this.x) * column > this.width) continue;
        found.push([node, y, high - low, Math.min(high, height) - Math.max(low, 0)]);
        if (model.opened(node)) waiting.push(node);
      }
    }
    return found;
  }

  left(node) { return (this.model.depth[node] - this.x) * this.column() + 4; }
  gap() { return Math.min(34, this.column() * 0.15); }

  /** Lines from open nodes to their children: a stem, and a branch to each. */
  links(nodes) {
    const { pen, model, height } = this;
    const plain = new Path2D();
    const strong = new Path2D();
    for (const [node, y] of nodes) {
      const children = model.children(node);
      const begin = this.left(children[0]);
      const stem = begin - this.gap() / 2;
      const upper = Math.min(y, this.place(children[0]));
      const lower = Math.max(y, this.place(children[children.length - 1]));
      plain.moveTo(this.left(node) + 12, y);
      plain.lineTo(stem, y);
      plain.moveTo(stem, Math.max(upper, -5));
      plain.lineTo(stem, Math.min(lower, height + 5));
      let last = -9999;
      for (const child of children) {
        const at = this.place(child);
        if (this.path.has(child)) {
          strong.moveTo(this.left(node) + 12, y);
          strong.lineTo(stem, y);
          strong.lineTo(stem, at);
          strong.lineTo(begin, at);
        }
        if (at < -5 || at - last < 1) continue;
        if (at > height + 5) break;
        last = at;
        plain.moveTo(stem, at);
        plain.lineTo(begin, at);
      }
    }
    pen.strokeStyle = this.colours.line;
    pen.lineWidth = 1;
    pen.stroke(plain);
    pen.strokeStyle = this.colours.link;
    pen.lineWidth = 2.5;
    pen.stroke(strong);
  }

  /** A node too low for words. */
  bar(node, y, high) {
    const { pen, model } = this;
    const x = this.left(node);
    const wide = (this.column() - this.gap()) * (model.opened(node) ? 1 : 0.6);
    pen.fillStyle = this.colours[KINDS[model.kinds[node]]];
    pen.fillRect(x, y - high / 2, wide, high);
    this.drawn.push({ node, x, y, wide, high, cut: true });
    if (node !== this.chosen && node !== this.hover) return;
    pen.strokeStyle = this.colours.link;
    pen.lineWidth = 2;
    pen.strokeRect(x - 3, y - high / 2 - 3, wide + 6, high + 6);
  }

  /** A node with its mark, its label in as many lines as it has room for, and its codes. */
  pill(node, y, space, visible) {
    const { pen, model, colours } = this;
    const kind = KINDS[model.kinds[node]];
    const low = Math.min(space * 0.84, 1.7 * this.font);
    const opened = model.opened(node);
    const x = this.left(node);
    const column = this.column() - this.gap() - 4;
    const room = opened ? column : clamp(this.width - x - 8, column, 2 * WIDE);
    const pad = low * 0.34;
    const half = low * 0.25;
    const arrow = opened ? "\u25BE" : "\u25B8";
    let tail = model.count(node) ? `${arrow} ${COUNT(model.below[node])}` : "";
    let tailWide = tail ? pen.measureText(tail).width + pad : 0;
    if (room - tailWide < TERSE) [tail, tailWide] = ["", 0];
    const used = 2 * half + 2.6 * pad + tailWide;
    const step = this.font * 1.25;
    const more = (Math.min(visible * 0.84, 4.2 * step) - low) / step;
    const most = opened ? 1 + Math.max(0, Math.floor(more)) : 1;
    const { lines, cut } = this.labels.wrapped(node, Math.max(0, room - used), most);
    const high = low + (lines.length - 1) * step;
    const wide = used + Math.max(...lines.map((text) => pen.measureText(text).width));
    this.frame(node, [x, y - high / 2, wide, high], low / 3);
    pen.fillStyle = colours[kind];
    pen.fill(new Path2D(outline(kind, x + pad + half, y, half)));
    pen.fillStyle = colours.ink;
    const first = y + 1 - (lines.length - 1) * step / 2;
    lines.forEach((text, i) => pen.fillText(text, x + 1.6 * pad + 2 * half, first + i * step));
    pen.fillStyle = colours.soft;
    if (tail) pen.fillText(tail, x + wide - tailWide, y + 1);
    this.drawn.push({ node, x, y, wide, high, cut });
  }

  frame(node, box, round) {
    const { pen, model, colours } = this;
    const parent = model.count(node) > 0;
    const chosen = node === this.chosen;
    pen.beginPath();
    pen.roundRect(...box, parent ? round : 2);
    pen.fillStyle = chosen ? colours.glow : parent ? colours.tint : colours.paper;
    pen.fill();
    if (!parent && !chosen && node !== this.hover) return;
    const strong = chosen || node === this.hover || this.path.has(node);
    pen.strokeStyle = strong ? colours.link : colours.line;
    pen.lineWidth = chosen ? 2.5 : 1;
    pen.stroke();
  }

  /** What is drawn at a point of the screen, if anything; fingers are given more room. */
  at(px, py, slack = 2) {
    let best;
    let least = slack;
    for (const each of this.drawn) {
      if (px < each.x - slack || px > each.x + each.wide + slack) continue;
      const away = Math.max(0, Math.abs(py - each.y) - each.high / 2);
      if (away <= least) [best, least] = [each, away];
    }
    return best;
  }
}
