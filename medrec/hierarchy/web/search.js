/** The search box with its suggestions. */
class Search {
  constructor(page) {
    Object.assign(this, { page, box: element("query"), list: element("found") });
    this.nodes = [];
    this.at = -1; // the suggestion that is marked
    this.box.addEventListener("input", () => this.look());
    this.box.addEventListener("focus", () => this.look());
    this.box.addEventListener("blur", () => this.close());
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.list.addEventListener("pointerdown", (event) => event.preventDefault());
    this.list.addEventListener("click", (event) => {
      const item = event.target.closest("[role=option]");
      if (item) this.take(this.nodes[Number(item.dataset.at)]);
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "/" || event.target === this.box) return;
      event.preventDefault();
      this.box.focus();
      this.box.select();
    });
  }

  look() {
    const { model } = this.page;
    const all = model.search(this.box.value);
    this.nodes = all.slice(0, SUGGESTED);
    this.at = -1;
    const items = this.nodes.map((node, i) => made(
      "li", { role: "option", id: `found-${i}`, "data-at": i, "aria-selected": "false" },
      marker(KINDS[model.kinds[node]]), made("span", {}, model.label(node)),
    ));
    const rest = all.length - this.nodes.length;
    const note = rest ? `and ${COUNT(rest)} more` : all.length ? "" : "Nothing found";
    if (note) items.push(made("li", { class: "rest", role: "presentation" }, note));
    this.list.replaceChildren(...items);
    const asked = this.box.value.trim() !== "";
    this.list.hidden = !asked;
    this.box.setAttribute("aria-expanded", String(asked && all.length > 0));
    this.box.removeAttribute("aria-activedescendant");
    element("status").textContent = asked ? `${COUNT(all.length)} found` : "";
  }

  key(event) {
    const steps = { ArrowDown: 1, ArrowUp: -1 };
    if (event.key in steps && this.nodes.length) this.mark(this.at + steps[event.key]);
    else if (event.key === "Enter") this.take(this.nodes[Math.max(0, this.at)]);
    else if (event.key === "Escape") this.leave();
    else return;
    event.preventDefault();
  }

  mark(at) {
    this.at = (at + this.nodes.length) % this.nodes.length;
    for (const item of this.list.querySelectorAll("[role=option]")) {
      const here = Number(item.dataset.at) === this.at;
      item.setAttribute("aria-selected", String(here));
      if (here) item.scrollIntoView({ block: "nearest" });
    }
    this.box.setAttribute("aria-activedescendant", `found-${this.at}`);
  }

  take(node) {
    if (node === undefined) return;
    this.leave();
    this.page.reveal(node);
  }
  leave() {
    this.close();
    element("tree").focus({ preventScroll: true });
  }
  close() {
    this.list.hidden = true;
    this.box.setAttribute("aria-expanded", "false");
  }
}
