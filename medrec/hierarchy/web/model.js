/** The tree without its picture: who stands below whom, what is open, what a search finds. */
class Model {
  constructor({ names, titles, parents, kinds }) {
    Object.assign(this, { names, titles, parents, kinds, size: names.length });
    const size = this.size;
    this.first = new Int32Array(size + 2); // where each node's children begin in `kids`
    this.kids = new Int32Array(size); // node `size` is no node: the roots are its children
    for (const parent of parents) this.first[(parent < 0 ? size : parent) + 1]++;
    for (let i = 0; i <= size; i++) this.first[i + 1] += this.first[i];
    const next = this.first.slice();
    parents.forEach((parent, node) => { this.kids[next[parent < 0 ? size : parent]++] = node; });
    this.open = new Uint8Array(size + 1).fill(1);
    this.depth = new Int32Array(size + 1).fill(-1);
    this.order = this.preorder();
    this.below = new Int32Array(size + 1); // codes below a node, itself not counted
    for (const node of this.order) this.depth[node] = this.depth[this.above(node)] + 1;
    for (let i = size - 1; i >= 0; i--) {
      const node = this.order[i];
      this.below[this.above(node)] += this.below[node] + (KINDS[kinds[node]] === "code" ? 1 : 0);
    }
    this.deepest = this.depth.reduce((a, b) => Math.max(a, b), 0);
    this.start = new Float64Array(size + 1); // lines of the first and the last leaf below a node
    this.end = new Float64Array(size + 1);
    this.texts = names.map((name, i) => `${name}\n${titles[i]}`.toLowerCase());
    this.bares = names.map((name, i) => name.length - this.bare(i).length); // where codes begin
    this.layout();
  }

  above(node) { return this.parents[node] < 0 ? this.size : this.parents[node]; }
  children(node) { return this.kids.subarray(this.first[node], this.first[node + 1]); }
  count(node) { return this.first[node + 1] - this.first[node]; }
  opened(node) { return this.open[node] === 1 && this.count(node) > 0; }
  ancestors(node) {
    const found = [];
    for (let i = this.parents[node]; i >= 0; i = this.parents[i]) found.unshift(i);
    return found;
  }

  /** Code without its system: "4280" of "diagnoses/9:4280". */
  bare(node) { return this.names[node].replace(/^[^/]*\/(?:\d+:)?/, ""); }
  label(node) {
    const title = this.titles[node];
    if (KINDS[this.kinds[node]] !== "code") return title || this.bare(node);
    return title ? `${this.bare(node)}  ${title}` : this.bare(node);
  }

  /** Nodes below `top` whose ancestors up to there are open, each before its descendants. */
  preorder(top = this.size) {
    const found = [];
    const waiting = [top];
    while (waiting.length) {
      const node = waiting.pop();
      if (node !== top) found.push(node);
      if (!this.open[node]) continue;
      const children = this.children(node);
      for (let i = children.length - 1; i >= 0; i--) waiting.push(children[i]);
    }
    return found;
  }

  /** Gives every leaf of the picture a line, with a little room between families. */
  layout() {
    this.seen = this.preorder();
    let line = -1;
    let family = this.size;
    for (const node of this.seen) {
      if (this.opened(node)) continue;
      line += this.above(node) === family ? 1 : 1.4;
      family = this.above(node);
      this.start[node] = this.end[node] = line;
    }
    for (let i = this.seen.length - 1; i >= 0; i--) {
      const node = this.seen[i];
      if (!this.opened(node)) continue;
      this.start[node] = this.start[this.kids[this.first[node]]];
      this.end[node] = this.end[this.kids[this.first[node + 1] - 1]];
    }
    this.lines = line + 1;
    this.shown = this.seen.reduce((most, node) => Math.max(most, this.depth[node]), 0);
  }

  set(nodes, open) {
    for (const node of nodes) this.open[node] = open ? 1 : 0;
    this.layout();
  }
  openTo(level) {
    for (const node of this.order) this.open[node] = this.depth[node] < level ? 1 : 0;
    this.layout();
  }
  openBelow(node) {
    const waiting = [node];
    while (waiting.length) {
      const each = waiting.pop();
      this.open[each] = 1;
      for (const child of this.children(each)) waiting.push(child);
    }
    this.layout();
  }

  /** Greatest level that shows at most `most` nodes, and one level in any case. */
  levelFor(most) {
    const counts = new Int32Array(this.deepest + 1);
    for (const node of this.order) counts[this.depth[node]]++;
    let level = 0;
    for (let shown = counts[0]; level < this.deepest; level++) {
      shown += counts[level + 1];
      if (level && shown > most) break;
    }
    return level;
  }

  /** Nodes that hold every word of a query: names and titles that begin with it come first. */
  search(query) {
    const whole = query.trim().toLowerCase();
    if (!whole) return [];
    const words = whole.split(/\s+/);
    const ranks = [[], [], []];
    for (const node of this.order) {
      const text = this.texts[node];
      if (!words.every((word) => text.includes(word))) continue;
      const title = this.names[node].length + 1;
      const bare = this.bares[node];
      const same = text.slice(bare, title - 1) === whole || text.slice(title) === whole;
      const begins = text.startsWith(whole, bare) || text.startsWith(whole, title);
      ranks[same ? 0 : begins ? 1 : 2].push(node);
    }
    return ranks.flat();
  }
}
