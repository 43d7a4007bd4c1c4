/** Drag, wheel, pinch and click on the canvas. */
class Pointer {
  constructor(page) {
    Object.assign(this, { page, view: page.view, held: new Map(), moved: 0 });
    const { canvas } = page.view;
    const on = (name, action, options) => canvas.addEventListener(name, action, options);
    on("pointerdown", (event) => this.down(event));
    on("pointermove", (event) => this.move(event));
    on("pointerup", (event) => this.up(event));
    on("pointercancel", (event) => this.drop(event));
    on("pointerleave", () => this.point());
    on("wheel", (event) => this.wheel(event), { passive: false });
  }

  down(event) {
    if (event.button) return;
    this.view.canvas.setPointerCapture(event.pointerId);
    if (!this.held.size) this.moved = 0;
    this.held.set(event.pointerId, [event.offsetX, event.offsetY]);
  }

  move(event) {
    const now = [event.offsetX, event.offsetY];
    const before = this.held.get(event.pointerId);
    if (!before) {
      this.point(this.view.at(...now), ...now);
      return;
    }
    this.moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
    if (this.held.size === 2) this.pinch(event.pointerId, before, now);
    else if (this.moved > 4) this.view.pan(now[0] - before[0], now[1] - before[1]);
    this.held.set(event.pointerId, now);
    this.point();
    this.view.canvas.classList.toggle("held", this.moved > 4);
  }

  pinch(id, before, now) {
    const other = [...this.held].find(([each]) => each !== id)[1];
    const apart = (a) => Math.max(20, Math.hypot(a[0] - other[0], a[1] - other[1]));
    const middle = [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2];
    this.view.zoom(apart(now) / apart(before), ...middle, false);
    this.view.pan((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
    this.moved += 9; // fingers that pinched click nothing
  }

  up(event) {
    const clicked = this.held.size === 1 && this.held.has(event.pointerId) && this.moved <= 4;
    this.drop(event);
    if (!clicked) return;
    const slack = event.pointerType === "mouse" ? 2 : 10;
    const hit = this.view.at(event.offsetX, event.offsetY, slack);
    this.point();
    if (hit) this.click(hit.node);
  }

  drop(event) {
    this.held.delete(event.pointerId);
    this.view.canvas.classList.remove("held");
  }

  /** A closed node is opened; an open one is chosen first, and closed by the next click. */
  click(node) {
    const { page } = this;
    if (page.model.opened(node) && node !== page.chosen) page.choose(node);
    else if (page.model.count(node)) page.toggle(node);
    else page.choose(node);
  }

  wheel(event) {
    event.preventDefault();
    const unit = [1, 16, this.view.height][event.deltaMode];
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      this.view.pan(-(event.deltaX || event.deltaY) * unit, 0);
      return;
    }
    const turn = clamp(event.deltaY * unit, -200, 200) * (event.ctrlKey ? 0.01 : 0.0022);
    this.view.zoom(Math.exp(-turn), event.offsetX, event.offsetY, false);
  }

  /** Marks what the pointer is over, and says kind and label in full where these were cut. */
  point(hit, px, py) {
    const { view } = this;
    const node = hit?.node ?? -1;
    const tip = element("tip");
    view.canvas.classList.toggle("over", node >= 0);
    tip.hidden = !hit?.cut;
    if (hit?.cut) {
      const { model } = this.page;
      tip.textContent = `${TITLES[KINDS[model.kinds[node]]]}: ${model.label(node)}`;
      const right = px > view.width / 2;
      tip.style.left = right ? "auto" : `${px + 14}px`;
      tip.style.right = right ? `${view.width - px + 10}px` : "auto";
      tip.style.top = `${Math.min(py + 16, view.height - 40)}px`;
    }
    if (node === view.hover) return;
    view.hover = node;
    view.refresh();
  }
}
