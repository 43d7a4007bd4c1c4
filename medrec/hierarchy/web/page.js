/** The page: what readers do with pointer, keys, buttons and search, and what they are told. */
class Page {
  constructor(model) {
    this.model = model;
    this.view = new View(element("canvas"), model);
    this.level = model.levelFor(element("tree").clientHeight / EASY);
    this.chosen = -1;
    model.openTo(this.level);
    this.legend();
    this.buttons();
    this.keys();
    new Pointer(this);
    new Search(this);
    element("about").open = innerWidth > 768;
    if (model.size) this.choose(model.order[0]);
    else for (const id of ["empty", "node"]) element(id).hidden = id === "node";
  }

  legend() {
    const counts = KINDS.map((_, kind) => this.model.kinds.filter((k) => k === kind).length);
    const items = KINDS.map((kind, i) => {
      return made("li", {}, marker(kind), `${TITLES[kind]} ${COUNT(counts[i])}`);
    });
    element("legend").replaceChildren(...items);
  }

  buttons() {
    const { view } = this;
    const act = (id, action) => element(id).addEventListener("click", action);
    act("in", () => view.zoom(1.5));
    act("out", () => view.zoom(1 / 1.5));
    act("fit", () => view.fit());
    act("fewer", () => this.openTo(this.level - 1));
    act("more", () => this.openTo(this.level + 1));
    act("toggle", () => this.toggle(this.chosen));
    act("centre", () => view.centre(this.chosen));
    act("whole", () => {
      view.keep(this.chosen, () => this.model.openBelow(this.chosen));
      this.choose(this.chosen);
    });
    this.tellLevel();
  }

  openTo(level) {
    this.level = clamp(level, 0, this.model.deepest);
    this.model.openTo(this.level);
    this.view.fit();
    while (!this.visible(this.chosen)) this.chosen = this.model.parents[this.chosen];
    this.choose(this.chosen, false);
    this.tellLevel();
  }

  visible(node) { return this.model.ancestors(node).every((each) => this.model.open[each]); }

  tellLevel() {
    element("level").textContent = `Level ${this.level} of ${this.model.deepest}`;
    element("fewer").disabled = this.level <= 0;
    element("more").disabled = this.level >= this.model.deepest;
  }

  /** Chooses a node; with `move` the view follows as little as it must. */
  choose(node, move = true) {
    if (node < 0) return;
    const { model, view } = this;
    this.chosen = view.chosen = node;
    view.path = new Set([...model.ancestors(node), node]);
    this.describe(node);
    this.announce(node);
    if (move && view.width) view.show(node);
    view.refresh();
  }

  toggle(node) {
    if (!this.model.count(node)) return;
    this.view.keep(node, () => this.model.set([node], !this.model.open[node]));
    this.choose(node);
  }

  /** Opens the way to a node, chooses it and puts it in the middle. */
  reveal(node) {
    this.model.set(this.model.ancestors(node), true);
    this.choose(node, false);
    this.view.centre(node);
  }

  describe(node) {
    const { model } = this;
    const kind = KINDS[model.kinds[node]];
    const parent = model.parents[node];
    const steps = model.ancestors(node).map((each) => made("li", {}, this.link(each)));
    const here = made("li", { "aria-current": "location" }, this.short(node));
    element("path").replaceChildren(...steps, here);
    element("chosen").replaceChildren(marker(kind), model.titles[node] || model.bare(node));
    const facts = [
      ["Kind", TITLES[kind]],
      ["Level", String(model.depth[node])],
      ["Codes below", COUNT(model.below[node])],
      ["Children", COUNT(model.count(node))],
      ["Name", model.names[node]],
      ["Parent", parent < 0 ? "none" : this.link(parent)],
    ];
    element("facts").replaceChildren(...facts.flatMap(([name, value]) => [
      made("dt", {}, name), made("dd", {}, value),
    ]));
    const opened = model.opened(node);
    element("toggle").textContent = opened ? "Close" : "Open";
    element("toggle").disabled = element("whole").disabled = !model.count(node);
  }

  short(node) {
    const code = KINDS[this.model.kinds[node]] === "code";
    return code ? this.model.bare(node) : this.model.label(node);
  }
  link(node) {
    const link = made("a", { href: "#tree" }, this.short(node));
    link.addEventListener("click", (event) => {
      event.preventDefault();
      this.reveal(node);
    });
    return link;
  }

  /** Tells readers of the screen where they are: the tree item that the canvas cannot be. */
  announce(node) {
    const { model } = this;
    const family = model.children(model.above(node));
    const attributes = {
      role: "treeitem",
      id: `node-${node}`,
      class: "unseen",
      "aria-selected": "true",
      "aria-level": model.depth[node] + 1,
      "aria-setsize": family.length,
      "aria-posinset": family.indexOf(node) + 1,
    };
    if (model.count(node)) attributes["aria-expanded"] = model.opened(node);
    const text = `${model.label(node)}, ${TITLES[KINDS[model.kinds[node]]]}`;
    element("tree").querySelector("[role=treeitem]").replaceWith(made("div", attributes, text));
    element("tree").setAttribute("aria-activedescendant", `node-${node}`);
  }

  keys() {
    const { model, view } = this;
    const actions = {
      ArrowRight: () => this.inwards(),
      ArrowLeft: () => this.outwards(),
      ArrowUp: () => this.choose(this.neighbour(-1)),
      ArrowDown: () => this.choose(this.neighbour(1)),
      Enter: () => this.toggle(this.chosen),
      " ": () => this.toggle(this.chosen),
      Home: () => this.choose(model.seen[0]),
      End: () => this.choose(model.seen[model.seen.length - 1]),
      "+": () => view.zoom(1.5),
      "=": () => view.zoom(1.5),
      "-": () => view.zoom(1 / 1.5),
      0: () => view.fit(),
    };
    element("tree").addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !actions[event.key]) return;
      event.preventDefault();
      if (model.size) actions[event.key]();
    });
  }

  inwards() {
    const { model, chosen } = this;
    if (!model.count(chosen)) return;
    if (model.opened(chosen)) this.choose(model.children(chosen)[0]);
    else this.toggle(chosen);
  }
  outwards() {
    if (this.model.opened(this.chosen)) this.toggle(this.chosen);
    else this.choose(this.model.parents[this.chosen]);
  }

  /** The next visible node of the same level, cousins included; the node itself at the end. */
  neighbour(step) {
    const { seen, depth } = this.model;
    let at = seen.indexOf(this.chosen);
    do at += step;
    while (at >= 0 && at < seen.length && depth[seen[at]] !== depth[this.chosen]);
    return seen[at] ?? this.chosen;
  }
}
